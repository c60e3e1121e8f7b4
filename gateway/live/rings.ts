import type { Tenant, TenantId } from '../../registry/tenant.ts'
import { BLOCK_RINGS, Ring, RingBlock } from './ring.ts'

/** Rings looked at for one that nobody asked for lately, so that a new tenant costs no walk through all. */
const LOOKS_MAX = 16

/**
 * The rings of the tenants with traffic, a bounded number of them. Where there are more tenants, one whose ring was not asked
 * for since the hand of a clock was there last gives it up to another: with ten thousand tenants in turn that happens
 * thousands of times a second, and nothing is allocated by it.
 */
export class Rings {
  readonly #max: number
  readonly #byId = new Map<TenantId, Ring>()
  readonly #all: Ring[] = []
  #block: RingBlock | null = null
  #hand = 0

  constructor(max: number) {
    this.#max = Math.max(1, max)
  }

  get size(): number {
    return this.#all.length
  }

  /** @returns undefined where it has none */
  get(id: TenantId): Ring | undefined {
    const ring = this.#byId.get(id)
    if (ring !== undefined) ring.isRecent = true
    return ring
  }

  /** A ring for a tenant without one; nothing is counted in it. */
  add({ id, key }: Tenant): Ring {
    const ring = this.#all.length < this.#max ? this.#make() : this.#takeAway()
    ring.id = id
    ring.key = key
    ring.cell = null
    ring.isRecent = true
    this.#byId.set(id, ring)
    return ring
  }

  /** In no order. */
  values(): readonly Ring[] {
    return this.#all
  }

  #make(): Ring {
    const at = this.#all.length % BLOCK_RINGS
    if (at === 0 || this.#block === null) {
      this.#block = new RingBlock(Math.min(BLOCK_RINGS, this.#max - this.#all.length))
    }
    const ring = new Ring(this.#block, at)
    this.#all.push(ring)
    return ring
  }

  /** A clock (second chance): who was asked for since the hand came by is passed over, for some looks. */
  #takeAway(): Ring {
    let ring = this.#next()
    for (let looks = 1; ring.isRecent && looks < LOOKS_MAX; looks++) {
      ring.isRecent = false
      ring = this.#next()
    }
    this.#byId.delete(ring.id)
    ring.clear()
    return ring
  }

  #next(): Ring {
    const ring = this.#all[this.#hand] as Ring
    this.#hand = this.#hand + 1 === this.#all.length ? 0 : this.#hand + 1
    return ring
  }
}
