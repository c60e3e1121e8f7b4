import fc from 'fast-check'
import t from 'tap'
import { crc32c, PROXY_HEADER_BYTES_MAX, readProxyHeader } from './proxy-protocol.ts'

const SIGNATURE = '0d0a0d0a000d0a515549540a'

function v2(commandAndFamily: string, rest: Buffer): Buffer {
  const length = Buffer.alloc(2)
  length.writeUInt16BE(rest.length)
  return Buffer.concat([Buffer.from(SIGNATURE + commandAndFamily, 'hex'), length, rest])
}

function tlv(type: number, value: Buffer): Buffer {
  const head = Buffer.from([type, 0, 0])
  head.writeUInt16BE(value.length, 1)
  return Buffer.concat([head, value])
}

const TCP4 = Buffer.from('c0000201c63364021f9001bb', 'hex')
const TCP6 = Buffer.from(
  '20010db8000000000000000000000001fe8000000000000000000000000000021f9001bb',
  'hex',
)
const MAPPED = Buffer.from('00000000000000000000ffffc0000201', 'hex')

const GOOD: readonly [string, Buffer, string | null, boolean][] = [
  ['TCP4', Buffer.from('PROXY TCP4 192.0.2.1 198.51.100.2 8080 443\r\n'), '192.0.2.1', false],
  ['TCP6', Buffer.from('PROXY TCP6 2001:DB8:0::1 fe80::2 0 65535\r\n'), '2001:db8::1', false],
  ['mapped', Buffer.from('PROXY TCP6 ::ffff:192.0.2.1 ::1 1 2\r\n'), '::ffff:192.0.2.1', false],
  ['UNKNOWN', Buffer.from('PROXY UNKNOWN\r\n'), null, false],
  ['UNKNOWN and more', Buffer.from('PROXY UNKNOWN ff:: whatever 1\r\n'), null, false],
  ['v2 TCP4', v2('2111', TCP4), '192.0.2.1', false],
  ['v2 TCP6', v2('2121', TCP6), '2001:db8::1', false],
  [
    'v2 mapped',
    v2('2121', Buffer.concat([MAPPED, MAPPED, Buffer.alloc(4)])),
    '::ffff:192.0.2.1',
    false,
  ],
  ['v2 UNIX', v2('2131', Buffer.alloc(216)), null, false],
  ['v2 LOCAL', v2('2000', Buffer.alloc(0)), null, false],
  ['v2 LOCAL with more', v2('2011', Buffer.alloc(3000)), null, false],
  ['v2 UNSPEC', v2('2100', Buffer.from('whatever')), null, false],
  [
    'v2 TLVs',
    v2('2111', Buffer.concat([TCP4, tlv(0x04, Buffer.alloc(9)), tlv(0xe0, Buffer.from('x'))])),
    '192.0.2.1',
    false,
  ],
  [
    'v2 TLS',
    v2('2111', Buffer.concat([TCP4, tlv(0x20, Buffer.from([1, 0, 0, 0, 0, 0x21, 0, 0]))])),
    '192.0.2.1',
    true,
  ],
  [
    'v2 no TLS',
    v2('2111', Buffer.concat([TCP4, tlv(0x20, Buffer.from([0, 0, 0, 0, 1]))])),
    '192.0.2.1',
    false,
  ],
  ['v2 checksum', withChecksum(), '192.0.2.1', false],
]

function withChecksum(change = 0): Buffer {
  const header = v2('2111', Buffer.concat([TCP4, tlv(0x03, Buffer.alloc(4)), tlv(4, TCP4)]))
  header.writeUInt32BE((crc32c(header) ^ change) >>> 0, 16 + 12 + 3)
  return header
}

t.test('a header is read in whole, whatever stands behind it, and says who connected', async t => {
  for (const [name, bytes, address, isTls] of GOOD) {
    for (const more of ['', 'GET / HTTP/1.1\r\n\r\n', 'PROXY TCP4 1.1.1.1 1.1.1.1 1 1\r\n']) {
      const read = readProxyHeader(Buffer.concat([bytes, Buffer.from(more)]), 'on')
      t.strictSame(read, { bytes: bytes.length, address, isTls }, name)
    }
  }
})

t.test(
  'each header cut at any byte asks for more, and one version is not taken for the other',
  async t => {
    for (const [name, bytes] of GOOD) {
      for (let cut = 0; cut < bytes.length; cut++) {
        if (readProxyHeader(bytes.subarray(0, cut), 'on') !== 'more') t.fail(`${name} at ${cut}`)
      }
      const isV2 = bytes[0] === 0x0d
      t.equal(readProxyHeader(bytes, isV2 ? 'v1' : 'v2'), 'bad', name)
      t.not(readProxyHeader(bytes, isV2 ? 'v2' : 'v1'), 'bad', name)
    }
  },
)

t.test('what is not exactly a header is refused', async t => {
  const lines = [
    'GET / HTTP/1.1\r\n',
    'proxy TCP4 192.0.2.1 198.51.100.2 1 2\r\n',
    'PROXY  TCP4 192.0.2.1 198.51.100.2 1 2\r\n',
    'PROXY TCP4 192.0.2.1 198.51.100.2 1 2 \r\n',
    'PROXY TCP4 192.0.2.1 198.51.100.2 1\r\n',
    'PROXY TCP4 192.0.2.1 198.51.100.2 1 65536\r\n',
    'PROXY TCP4 192.0.2.1 198.51.100.2 01 2\r\n',
    'PROXY TCP4 192.0.2.1 198.51.100.2 -1 2\r\n',
    'PROXY TCP4 192.0.2.01 198.51.100.2 1 2\r\n',
    'PROXY TCP4 192.0.2 198.51.100.2 1 2\r\n',
    'PROXY TCP4 ::1 ::2 1 2\r\n',
    'PROXY TCP4 192.0.2.1 ::2 1 2\r\n',
    'PROXY TCP6 192.0.2.1 198.51.100.2 1 2\r\n',
    'PROXY TCP6 fe80::1%eth0 ::2 1 2\r\n',
    'PROXY UDP4 192.0.2.1 198.51.100.2 1 2\r\n',
    'PROXY UNKNOWNX\r\n',
    'PROXY TCP4 192.0.2.1\n198.51.100.2 1 2\r\n',
    `PROXY UNKNOWN ${'x'.repeat(92)}\r\n`,
    'x'.repeat(107),
    `PROXY TCP4 ${'1'.repeat(96)}`,
  ]
  for (const line of lines) t.equal(readProxyHeader(Buffer.from(line), 'on'), 'bad', line)
  t.equal(
    readProxyHeader(Buffer.from(`PROXY UNKNOWN ${'x'.repeat(91)}\r\n`), 'on') === 'bad',
    false,
  )

  const binary: [string, Buffer][] = [
    ['version 1 in binary', v2('1111', TCP4)],
    ['an unknown command', v2('2211', TCP4)],
    ['datagrams', v2('2112', TCP4)],
    ['an unknown family', v2('2141', TCP4)],
    ['addresses cut short', v2('2111', TCP4.subarray(1))],
    ['TCP6 with the addresses of TCP4', v2('2121', TCP4)],
    ['a TLV cut short', v2('2111', Buffer.concat([TCP4, Buffer.from([4, 0])]))],
    ['a TLV that is too long', v2('2111', Buffer.concat([TCP4, Buffer.from([4, 0, 2, 9])]))],
    ['a TLS TLV that is too short', v2('2111', Buffer.concat([TCP4, tlv(0x20, TCP4.subarray(8))]))],
    ['a wrong checksum', withChecksum(1)],
    ['a checksum of the wrong size', v2('2111', Buffer.concat([TCP4, tlv(3, TCP4)]))],
  ]
  for (const [name, bytes] of binary) t.equal(readProxyHeader(bytes, 'on'), 'bad', name)
  const huge = v2('2111', Buffer.alloc(5000)).subarray(0, 16)
  t.equal(readProxyHeader(huge, 'on'), 'bad', 'a length past the bound is not waited for')
})

t.test('property: no bytes make it throw, wait past its bound, or read past their end', async t => {
  const near = fc
    .tuple(
      fc.constantFrom(...GOOD.map(([, bytes]) => bytes)),
      fc.nat(),
      fc.uint8Array({ maxLength: 9 }),
    )
    .map(([bytes, at, noise]) => {
      const changed = Buffer.concat([bytes, Buffer.alloc(8)])
      changed.set(noise, at % bytes.length)
      return changed
    })
  const any = fc.uint8Array({ maxLength: 200 }).map(bytes => Buffer.from(bytes))
  fc.assert(
    fc.property(fc.oneof(near, any), fc.constantFrom('on', 'v1', 'v2'), (bytes, versions) => {
      const read = readProxyHeader(bytes, versions)
      if (read === 'bad') return true
      if (read === 'more') return bytes.length < PROXY_HEADER_BYTES_MAX
      return read.bytes <= bytes.length && read.bytes > 0
    }),
    { numRuns: 3000 },
  )
  t.equal(crc32c(Buffer.from('123456789')), 0xe306_9283, 'the polynomial is Castagnoli’s')
})
