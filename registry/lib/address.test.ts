import t from 'tap'
import { makeAddressPolicy, networkOf } from './address.ts'

const LOCAL = [
  '127.0.0.1',
  '127.255.255.254',
  '0.0.0.0',
  '169.254.169.254',
  '100.100.100.200',
  '168.63.129.16',
  '224.0.0.1',
  '255.255.255.255',
  '::',
  '::1',
  '0:0:0:0:0:0:0:1',
  'fe80::1',
  'fe80::1%eth0',
  'ff02::1',
  'fd00:ec2::254',
  '::ffff:127.0.0.1',
  '::ffff:7f00:1',
  '::FFFF:169.254.169.254',
  '::ffff:0:127.0.0.1',
  '::127.0.0.1',
  '64:ff9b::169.254.169.254',
  '2002:7f00:1::',
]

const GOOD = [
  '10.1.2.3',
  '192.168.1.1',
  '172.16.0.9',
  '93.184.216.34',
  '2606:4700::1',
  'fd12:3456::1',
  '::ffff:10.0.0.1',
  '64:ff9b::10.0.0.1',
  '169.253.0.1',
  '128.0.0.1',
]

t.test('loopback, link-local, metadata and unspecified addresses are refused', async t => {
  const policy = makeAddressPolicy([])
  for (const address of LOCAL) t.notOk(policy.mayConnect('db.example', address), address)
})

t.test('private and public addresses are let through', async t => {
  const policy = makeAddressPolicy([])
  for (const address of GOOD) t.ok(policy.mayConnect('db.example', address), address)
})

t.test('what is no address is refused', async t => {
  const policy = makeAddressPolicy([])
  for (const text of ['', 'localhost', '1.2.3', '0x7f.1', '2130706433', '[::1]']) {
    t.notOk(policy.mayConnect('db.example', text), text)
  }
})

t.test('the allow list names addresses, ranges and hosts, and nothing beyond them', async t => {
  const policy = makeAddressPolicy(['127.0.0.0/8', '::1', 'Db.Internal'])
  t.ok(policy.mayConnect('x', '127.0.0.9'))
  t.ok(policy.mayConnect('x', '::ffff:127.0.0.9'))
  t.ok(policy.mayConnect('x', '::1'))
  t.ok(policy.mayConnect('db.internal', '169.254.0.1'))
  t.notOk(policy.mayConnect('x', '169.254.0.1'))
  t.notOk(policy.mayConnect('db.internal.evil', '169.254.0.1'))
  t.notOk(policy.mayConnect('x', '::'))
})

t.test('an entry that is no address, range or host is one clear error', async t => {
  for (const entry of ['10.0.0.0/33', '10.0.0.0/x', 'a/b', '::/129', '1.2.3.4/8/9', '-x']) {
    t.throws(() => makeAddressPolicy([entry]), { message: /neither an address/ }, entry)
  }
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
