import t from 'tap'
import { canonicalAccount, networkOf } from './subject.ts'

t.test('spellings of one account that an app may fold are one', async t => {
  const spellings = [
    'jose@acme.example',
    ' Jose@ACME.example ',
    'jos\u00e9@acme.example',
    'jose\u0301@acme.example',
    '\uff4aose@acme.example',
    'jo\u200bse@acme.example',
    'jose@acme.example\u0000',
    'jo\u00adse@acme.example\n',
    `${' '.repeat(315)}jose@acme.example`,
    `${'\u0301\u200b\t'.repeat(20_000)}jose@acme.example`,
  ]
  for (const spelling of spellings) t.equal(canonicalAccount(spelling), spellings[0])
  t.not(canonicalAccount('joe@acme.example'), spellings[0])
  t.equal(canonicalAccount(12345), '12345')
})

t.test('what names no account is none, and what is no text is one account', async t => {
  t.equal(canonicalAccount(undefined), null)
  t.equal(canonicalAccount(null), null)
  for (const odd of [['jose@acme.example'], {}, true]) t.equal(canonicalAccount(odd), '?')
})

t.test('an account is bounded, whatever it expands to', async t => {
  t.equal(canonicalAccount('x'.repeat(100_000))?.length, 320)
  // One character that decomposes into eighteen.
  t.equal(canonicalAccount('\ufdfa'.repeat(100_000))?.length, 320)
})

t.test('a client is its IPv4 address or its IPv6 network of 64 bits', async t => {
  for (const [address, network] of [
    ['192.0.2.7', '192.0.2.7'],
    ['::ffff:192.0.2.7', '192.0.2.7'],
    ['::FFFF:c000:207', '192.0.2.7'],
    ['64:ff9b::c000:207', '192.0.2.7'],
    ['2001:db8:0:1::7', '2001:db8:0:1::/64'],
    ['2001:DB8:0:1:ffff:ffff:ffff:ffff', '2001:db8:0:1::/64'],
    ['2001:db8:0:2::7', '2001:db8:0:2::/64'],
    ['fe80::1%eth0', 'fe80:0:0:0::/64'],
    ['::1', '0:0:0:0::/64'],
    ['', '?'],
  ] as const) {
    t.equal(networkOf(address), network, address)
  }
})
