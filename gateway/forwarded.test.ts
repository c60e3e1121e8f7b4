import t from 'tap'
import type { Exchange } from './exchange.ts'
import { addForwarded, clientAddress, makeTrustedProxies } from './forwarded.ts'
import { cleanHeaders } from './headers.ts'

const exchange = (address: string, ...raw: string[]) =>
  ({
    client: { address, isTls: false },
    head: cleanHeaders(['host', 'api.example', ...raw], 100),
  }) as Exchange
const added = (from: Exchange, trusted: string[]) => {
  const headers: string[] = []
  addForwarded(headers, from, makeTrustedProxies(trusted))
  return headers
}

t.test('forwarding fields of a stranger are replaced', async t => {
  const from = exchange('203.0.113.9', 'x-forwarded-for', '1.1.1.1', 'x-forwarded-proto', 'https')
  t.strictSame(added(from, []), [
    'x-forwarded-for',
    '203.0.113.9',
    'x-forwarded-proto',
    'http',
    'x-forwarded-host',
    'api.example',
  ])
  t.equal(clientAddress(from, makeTrustedProxies([])), '203.0.113.9')
})

t.test('those of a trusted proxy are continued', async t => {
  const from = exchange(
    '::ffff:10.0.0.1',
    'x-forwarded-for',
    '198.51.100.7, 10.0.0.2',
    'x-forwarded-proto',
    'https',
    'x-forwarded-host',
    'www.example',
  )
  const trusted = ['10.0.0.0/8']
  t.strictSame(added(from, trusted), [
    'x-forwarded-for',
    '198.51.100.7, 10.0.0.2, 10.0.0.1',
    'x-forwarded-proto',
    'https',
    'x-forwarded-host',
    'www.example',
  ])
  t.equal(clientAddress(from, makeTrustedProxies(trusted)), '198.51.100.7')
})

t.test(
  'a scheme is http or https, and that of the connection where nobody trusted says',
  async t => {
    const proto = (from: Exchange, trusted: string[]) => added(from, trusted)[3]
    const overTls = { ...exchange('10.0.0.1'), client: { address: '10.0.0.1', isTls: true } }
    t.equal(proto(overTls, []), 'https')
    t.equal(proto(exchange('10.0.0.1', 'x-forwarded-proto', 'javascript'), ['10.0.0.1']), 'http')
    const said = { ...exchange('10.0.0.1', 'x-forwarded-proto', 'http'), client: overTls.client }
    t.equal(proto(said, []), 'https')
    t.equal(proto(said, ['10.0.0.1']), 'http')
  },
)

t.test('a list that a user forged stops at the first hop nobody vouches for', async t => {
  const from = exchange('10.0.0.1', 'x-forwarded-for', '1.2.3.4, 198.51.100.7')
  t.equal(clientAddress(from, makeTrustedProxies(['10.0.0.1'])), '198.51.100.7')
})

t.test('an entry that is no range is named', async t => {
  for (const entry of ['proxy', '10.0.0.0/33', '10.0.0.0/x', '::/129']) {
    t.throws(() => makeTrustedProxies([entry]), new RegExp(entry.replace('/', '.')))
  }
})
