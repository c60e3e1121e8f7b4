import { isIPv4, isIPv6, SocketAddress } from 'node:net'

/** Which forms are taken; `on` is either. */
export type ProxyVersions = 'v1' | 'v2' | 'on'

/** What a load balancer says of the connection behind it. */
export interface ProxyHeader {
  /** Length of the header. */
  readonly bytes: number
  /** Of the client; null where the header speaks of no client (a health check): the peer itself. */
  readonly address: string | null
  /** The load balancer took TLS from the client. */
  readonly isTls: boolean
}

/** The longest line of version 1, its CRLF included. */
const V1_BYTES_MAX = 107
const V2_FIXED_BYTES = 16
/** Addresses and TLVs of version 2; with a client certificate's names in it a header is below 1 KiB. */
const V2_REST_BYTES_MAX = 4096

/** No header of either version is longer. */
export const PROXY_HEADER_BYTES_MAX = V2_FIXED_BYTES + V2_REST_BYTES_MAX

/**
 * The header of the PROXY protocol (haproxy, doc/proxy-protocol.txt) that a connection begins with.
 * Strict, for who is believed here decides what the logs and the limits say. `more`: good so far. `bad`:
 * no such header, whatever follows.
 *
 * @param bytes all that has come so far
 */
export function readProxyHeader(
  bytes: Buffer,
  versions: ProxyVersions,
): ProxyHeader | 'more' | 'bad' {
  const isV1 = versions !== 'v2' && startsAs(bytes, V1_SIGNATURE)
  if (isV1) return readV1(bytes)
  if (versions !== 'v1' && startsAs(bytes, V2_SIGNATURE)) return readV2(bytes)
  return 'bad'
}

const V1_SIGNATURE = Buffer.from('PROXY ')
const V2_SIGNATURE = Buffer.from('\r\n\r\n\0\r\nQUIT\n')

function startsAs(bytes: Buffer, signature: Buffer): boolean {
  const length = Math.min(bytes.length, signature.length)
  return bytes.compare(signature, 0, length, 0, length) === 0
}

function readV1(bytes: Buffer): ProxyHeader | 'more' | 'bad' {
  const end = bytes.indexOf('\r\n')
  if (end === -1) return bytes.length < V1_BYTES_MAX ? 'more' : 'bad'
  const length = end + 2
  if (length > V1_BYTES_MAX) return 'bad'
  const line = bytes.toString('latin1', 0, end)
  // What follows UNKNOWN is to be ignored.
  if (/^PROXY UNKNOWN(?: |$)/.test(line)) return { bytes: length, address: null, isTls: false }
  const parts = /^PROXY (TCP4|TCP6) (\S+) (\S+) (\d{1,5}) (\d{1,5})$/.exec(line)
  if (parts === null) return 'bad'
  const [, family, source = '', target = '', ...ports] = parts
  const isAddress = family === 'TCP4' ? isIPv4 : isPlainIPv6
  if (!isAddress(source) || !isAddress(target) || !ports.every(isPort)) return 'bad'
  return { bytes: length, address: canonical(source), isTls: false }
}

/** Without a zone, which means nothing on another machine. */
function isPlainIPv6(text: string): boolean {
  return isIPv6(text) && !text.includes('%')
}

function isPort(text: string): boolean {
  return Number(text) <= 65_535 && (text === '0' || !text.startsWith('0'))
}

/** Byte 13: family and transport → bytes of its two addresses and ports. Datagrams do not come by TCP. */
const V2_FAMILIES = new Map([
  [0x11, 12],
  [0x21, 36],
  [0x31, 216],
])
const V2_UNSPECIFIED = 0x00

function readV2(bytes: Buffer): ProxyHeader | 'more' | 'bad' {
  if (bytes.length > 12) {
    const command = bytes[12]
    if (command !== 0x20 && command !== 0x21) return 'bad'
  }
  if (bytes.length < V2_FIXED_BYTES) return 'more'
  const restBytes = bytes.readUInt16BE(14)
  if (restBytes > V2_REST_BYTES_MAX) return 'bad'
  const length = V2_FIXED_BYTES + restBytes
  const isLocal = bytes[12] === 0x20
  const family = bytes[13] as number
  const addressBytes = V2_FAMILIES.get(family)
  if (!isLocal && family !== V2_UNSPECIFIED) {
    if (addressBytes === undefined || restBytes < addressBytes) return 'bad'
  }
  if (bytes.length < length) return 'more'
  // The balancer's own connection, or one that it cannot describe: the rest is to be ignored.
  if (isLocal || addressBytes === undefined) return { bytes: length, address: null, isTls: false }
  const header = bytes.subarray(0, length)
  const extras = readExtras(header, V2_FIXED_BYTES + addressBytes)
  return extras === 'bad' ? 'bad' : { bytes: length, address: sourceOf(header, family), ...extras }
}

function sourceOf(header: Buffer, family: number): string | null {
  if (family === 0x11) return header.subarray(16, 20).join('.')
  if (family === 0x21) {
    return canonical(header.toString('hex', 16, 32).replace(/.{4}(?=.)/g, '$&:'))
  }
  return null
}

/** One spelling for each address, as the kernel's own are, so that limits count one client once. */
function canonical(address: string): string {
  if (isIPv4(address)) return address
  return new SocketAddress({ address, family: 'ipv6' }).address
}

const TLV_CRC32C = 0x03
const TLV_SSL = 0x20
const SSL_CLIENT = 0x01

/** The TLVs behind the addresses; they must fill the header exactly. */
function readExtras(header: Buffer, start: number): { isTls: boolean } | 'bad' {
  let isTls = false
  let at = start
  while (at < header.length) {
    if (at + 3 > header.length) return 'bad'
    const type = header[at]
    const valueAt = at + 3
    const bytes = header.readUInt16BE(at + 1)
    at = valueAt + bytes
    if (at > header.length) return 'bad'
    if (type === TLV_CRC32C) {
      if (bytes !== 4 || !isChecksumRight(header, valueAt)) return 'bad'
    } else if (type === TLV_SSL) {
      if (bytes < 5) return 'bad'
      isTls = ((header[valueAt] as number) & SSL_CLIENT) !== 0
    }
  }
  return { isTls }
}

/** The sum is of the whole header, its own four bytes being zero. */
function isChecksumRight(header: Buffer, at: number): boolean {
  const summed = Buffer.from(header)
  summed.fill(0, at, at + 4)
  return crc32c(summed) === header.readUInt32BE(at)
}

/** CRC-32C (Castagnoli, RFC 4960 appendix B); node:zlib has the other polynomial. */
export function crc32c(bytes: Buffer): number {
  let crc = 0xffff_ffff
  for (const byte of bytes) {
    crc ^= byte
    for (let bit = 0; bit < 8; bit++) crc = (crc >>> 1) ^ ((crc & 1) === 0 ? 0 : 0x82f6_3b78)
  }
  return ~crc >>> 0
}
