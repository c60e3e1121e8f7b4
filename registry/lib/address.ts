import { BlockList, isIP } from 'node:net'

/** Decides whether a connection to `address`, which `host` resolved to, may be made. */
export interface AddressPolicy {
  mayConnect(host: string, address: string): boolean
}

/**
 * Ranges in which no tenant's database or bucket has business: the machine itself, link-local
 * (169.254.169.254 is the metadata service of most clouds) and the metadata addresses elsewhere.
 * Private ranges (RFC 1918, RFC 4193) are where databases live, so they are not here.
 */
const REFUSED = [
  ['0.0.0.0', 8, 'ipv4'], // "this host", RFC 1122 section 3.2.1.3; connects to loopback on Linux
  ['127.0.0.0', 8, 'ipv4'],
  ['169.254.0.0', 16, 'ipv4'],
  ['100.100.100.200', 32, 'ipv4'], // Alibaba Cloud metadata
  ['168.63.129.16', 32, 'ipv4'], // Azure host services
  ['192.0.0.192', 32, 'ipv4'], // Oracle Cloud metadata
  ['224.0.0.0', 4, 'ipv4'], // multicast
  ['240.0.0.0', 4, 'ipv4'], // reserved, broadcast
  ['::', 127, 'ipv6'], // :: and ::1
  ['fe80::', 10, 'ipv6'],
  ['fec0::', 10, 'ipv6'], // site-local, deprecated by RFC 3879
  ['ff00::', 8, 'ipv6'],
  ['fd00:ec2::', 32, 'ipv6'], // AWS metadata, DNS and time
  ['fd20:ce::254', 128, 'ipv6'], // Google Cloud metadata
] as const

/**
 * @param allow exceptions: addresses, CIDR ranges, or host names (compared without case)
 * @throws Error naming the entry that is none of the three
 */
export function makeAddressPolicy(allow: readonly string[]): AddressPolicy {
  const refused = new BlockList()
  for (const [net, prefix, family] of REFUSED) refused.addSubnet(net, prefix, family)
  const allowed = new BlockList()
  const allowedHosts = new Set<string>()
  for (const entry of allow) addAllowed(entry, allowed, allowedHosts)

  return {
    mayConnect(host, address) {
      if (allowedHosts.has(host.toLowerCase())) return true
      const spellings = withEmbeddedIpv4(address)
      if (spellings.length === 0) return false
      if (spellings.some(ip => isIn(allowed, ip))) return true
      return !spellings.some(ip => isIn(refused, ip))
    },
  }
}

function addAllowed(entry: string, ranges: BlockList, hosts: Set<string>): void {
  const [net = '', prefix, ...rest] = entry.split('/')
  const version = isIP(net)
  if (version !== 0 && rest.length === 0) {
    const bits = version === 4 ? 32 : 128
    const length = prefix === undefined ? bits : Number(prefix)
    const isDecimal = prefix === undefined || /^\d{1,3}$/.test(prefix)
    if (isDecimal && length <= bits) {
      ranges.addSubnet(net, length, version === 4 ? 'ipv4' : 'ipv6')
      return
    }
  } else if (prefix === undefined && /^[a-z0-9_]([a-z0-9._-]{0,252})$/i.test(entry)) {
    hosts.add(entry.toLowerCase())
    return
  }
  throw new Error(`${entry} is neither an address, nor a CIDR range, nor a host name`)
}

function isIn(ranges: BlockList, ip: string): boolean {
  return ranges.check(ip, isIP(ip) === 4 ? 'ipv4' : 'ipv6')
}

/** `address` itself and the IPv4 address that an IPv6 one carries; empty where it is no address. */
export function withEmbeddedIpv4(address: string): string[] {
  const bare = address.replace(/%.*$/, '')
  const version = isIP(bare)
  if (version === 0) return []
  if (version === 4) return [bare]
  const groups = ipv6Groups(bare)
  const at = embeddedAt(groups)
  if (at === -1) return [bare]
  const [high = 0, low = 0] = groups.slice(at)
  return [bare, `${high >> 8}.${high & 255}.${low >> 8}.${low & 255}`]
}

/** Index of the first of two groups that hold an IPv4 address, or -1. */
function embeddedAt(groups: readonly number[]): number {
  const head = groups.slice(0, 6).join(':')
  if (head === '0:0:0:0:0:65535') return 6 // ::ffff:a.b.c.d, RFC 4291 section 2.5.5.2
  if (head === '0:0:0:0:65535:0') return 6 // ::ffff:0:a.b.c.d, RFC 2765
  if (head === '100:65435:0:0:0:0') return 6 // 64:ff9b::/96, RFC 6052
  if (head === '0:0:0:0:0:0' && groups[6] !== 0) return 6 // ::a.b.c.d, deprecated
  if (groups[0] === 0x2002) return 1 // 6to4, RFC 3056
  return -1
}

/** The eight groups of a valid IPv6 address. */
export function ipv6Groups(address: string): number[] {
  const text = address.replace(/(\d+)\.(\d+)\.(\d+)\.(\d+)$/, (_, ...bytes: string[]) => {
    const [a = 0, b = 0, c = 0, d = 0] = bytes.slice(0, 4).map(Number)
    return `${((a << 8) | b).toString(16)}:${((c << 8) | d).toString(16)}`
  })
  const [head = '', tail] = text.split('::')
  const parse = (part: string) => (part === '' ? [] : part.split(':').map(g => parseInt(g, 16)))
  const before = parse(head)
  if (tail === undefined) return before
  const after = parse(tail)
  return [...before, ...Array<number>(8 - before.length - after.length).fill(0), ...after]
}

/**
 * What one client can choose its addresses from: an IPv4 address, or an IPv6 network of 64 bits, which
 * is the least that a subscriber gets (RFC 6177).
 */
export function networkOf(address: string): string {
  // Most are plain IPv4.
  if (address !== '' && !address.includes(':')) return address
  const [bare, ipv4] = withEmbeddedIpv4(address)
  if (bare === undefined) return '?'
  if (ipv4 !== undefined || !bare.includes(':')) return ipv4 ?? bare
  const groups = ipv6Groups(bare).slice(0, 4)
  return `${groups.map(group => group.toString(16)).join(':')}::/64`
}
