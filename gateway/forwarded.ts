import { BlockList, isIP } from 'node:net'
import type { Exchange } from './exchange.ts'

/** Peers whose X-Forwarded-* we believe and continue; of anyone else they are dropped. */
export interface TrustedProxies {
  trusts(address: string): boolean
}

/**
 * @param entries addresses or CIDR ranges (TRUSTED_PROXIES)
 * @throws Error naming an entry that is neither
 */
export function makeTrustedProxies(entries: readonly string[]): TrustedProxies {
  if (entries.length === 0) return { trusts: () => false }
  const list = new BlockList()
  for (const entry of entries) {
    const [address = '', prefix] = entry.split('/')
    const version = isIP(address)
    const bits = prefix === undefined ? undefined : Number(prefix)
    const bitsMax = version === 6 ? 128 : 32
    if (
      version === 0 ||
      (bits !== undefined && !(Number.isInteger(bits) && bits >= 0 && bits <= bitsMax))
    ) {
      throw new Error(`${entry} is neither an address nor a CIDR range`)
    }
    const family = version === 6 ? 'ipv6' : 'ipv4'
    if (bits === undefined) list.addAddress(address, family)
    else list.addSubnet(address, bits, family)
  }
  return {
    trusts(address) {
      const plain = plainAddress(address)
      return list.check(plain, isIP(plain) === 6 ? 'ipv6' : 'ipv4')
    },
  }
}

/** Address of the user: the TCP peer, or what the trusted proxies in front of us say. */
export function clientAddress(exchange: Exchange, trusted: TrustedProxies): string {
  const peer = plainAddress(exchange.client.address)
  if (exchange.head.forwardedFor === null || !trusted.trusts(peer)) return peer
  const hops = exchange.head.forwardedFor.split(',').map(hop => hop.trim())
  // From the right: the first hop that no trusted proxy vouches for is the user.
  for (let i = hops.length - 1; i >= 0; i--) {
    const hop = hops[i] as string
    if (isIP(hop) === 0) return peer
    if (!trusted.trusts(hop)) return hop
  }
  return hops[0] ?? peer
}

/** Adds X-Forwarded-For, -Proto and -Host to `headers`. */
export function addForwarded(headers: string[], exchange: Exchange, trusted: TrustedProxies): void {
  const { head, client } = exchange
  const peer = plainAddress(client.address)
  const isTrusted = trusted.trusts(peer)
  const before = isTrusted ? head.forwardedFor : null
  const said = isTrusted ? head.forwardedProto : null
  const proto = said === 'https' || said === 'http' ? said : null
  const host = (isTrusted ? head.forwardedHost : null) ?? head.host
  headers.push('x-forwarded-for', before === null ? peer : `${before}, ${peer}`)
  headers.push('x-forwarded-proto', proto ?? (client.isTls ? 'https' : 'http'))
  if (host !== null) headers.push('x-forwarded-host', host)
}

/** An IPv4 peer of a dual-stack listener shows as `::ffff:a.b.c.d`. */
function plainAddress(address: string): string {
  return address.startsWith('::ffff:') && address.includes('.') ? address.slice(7) : address
}
