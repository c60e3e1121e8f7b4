/** Who can be ranked: a replica, or a number of one in a simulation. */
export interface Ranked {
  readonly hash: number
  /** Above 0. */
  readonly weight: number
}

/**
 * The `k` members that rank highest for a key, best first: weighted rendezvous hashing (Thaler and
 * Ravishankar 1998, "Using name-based mappings to increase hit rates"; the weighted score after
 * Schindelhauer and Schomaker 2005). Every gateway finds the same ones without talking to another, a
 * member that comes or goes moves only its own share of the keys, and twice the weight gets twice
 * the keys.
 */
export function rank<M extends Ranked>(keyHash: number, members: readonly M[], k: number): M[] {
  const best: M[] = []
  const scores: number[] = []
  for (const member of members) {
    const own = scoreOf(keyHash, member)
    let at = best.length
    while (at > 0 && own > (scores[at - 1] as number)) at--
    if (at >= k) continue
    best.splice(at, 0, member)
    scores.splice(at, 0, own)
    if (best.length > k) {
      best.pop()
      scores.pop()
    }
  }
  return best
}

const UINT32 = 2 ** 32

function scoreOf(keyHash: number, { hash, weight }: Ranked): number {
  // Half a step up: a score of ln(0) or ln(1) has no order.
  const uniform = (mix(keyHash ^ mix(hash)) + 0.5) / UINT32
  return -weight / Math.log(uniform)
}

/** FNV-1a with a final mix; not for adversaries: who chooses tenant ids and origins is the operator. */
export function hashText(text: string): number {
  let hash = 0x811c9dc5
  for (let i = 0; i < text.length; i++) {
    hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193)
  }
  return mix(hash)
}

/** The finaliser of MurmurHash3 (public domain, Appleby): every bit of the input reaches every bit. */
function mix(value: number): number {
  let h = value
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b)
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35)
  return (h ^ (h >>> 16)) >>> 0
}
