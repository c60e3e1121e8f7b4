import t from 'tap'
import type { Fault } from '../registry/lib/errors.ts'
import { cleanHeaders, isOwnName } from './headers.ts'

const FIELDS_MAX = 100
const clean = (...raw: string[]) => cleanHeaders(raw, FIELDS_MAX)
const names = (forward: readonly string[]) => forward.filter((_, i) => i % 2 === 0)
const code = (act: () => unknown) => {
  try {
    act()
    return 'nothing thrown'
  } catch (error) {
    return (error as Fault).code
  }
}

t.test('every spelling of our own names is dropped', async t => {
  const spellings = [
    'x-tenant-context',
    'X-Tenant-Context',
    'X_TENANT_CONTEXT',
    'x_tenant-context',
    'x-tenant_context',
    'x-tenant-request',
    'X-Tenant-Anything',
    'x-request-id',
    'X_Request_Id',
    'x-forwarded-for',
    'X_Forwarded_Host',
    'forwarded',
    'x-real-ip',
    'x_real_ip',
    'x-usage',
    'x-doorman-debug',
    'traceparent',
  ]
  for (const name of spellings) {
    t.strictSame(clean('host', 'a', name, 'evil').forward, ['host', 'a'], name)
    t.ok(isOwnName(name.toLowerCase()), name)
  }
})

t.test('names that fold into one with a meaning are dropped', async t => {
  const spellings = ['Content_Length', 'transfer_encoding', 'Content_Type', 'HTTP2_Settings']
  for (const name of [...spellings, 'Proxy_Authorization', 'Access_Control-Request-Method']) {
    t.strictSame(clean('host', 'a', name, 'evil').forward, ['host', 'a'], name)
  }
  const head = clean('Content_Type', 'text/html', 'Content-Type', 'text/plain')
  t.strictSame([head.contentType, ...head.forward], ['text/plain', 'Content-Type', 'text/plain'])
})

t.test('names that only look like ours are forwarded', async t => {
  const kept = ['x-tenants', 'xtenant-context', 'x-custom', 'tenant-context', 'accept', 'x_custom']
  t.strictSame(names(clean(...kept.flatMap(name => [name, '1'])).forward), kept)
})

t.test('hop-by-hop fields and what Connection lists end here', async t => {
  const head = clean(
    'Host',
    'a',
    'Connection',
    'close, X-Secret',
    'x-secret',
    '1',
    'Keep-Alive',
    'timeout=5',
    'TE',
    'trailers',
    'connection',
    'cookie',
    'Cookie',
    'a=b',
    'Transfer-Encoding',
    'chunked',
    'Accept',
    '*/*',
  )
  t.strictSame(head.forward, ['Host', 'a', 'Accept', '*/*'])
})

t.test('Connection cannot remove Host', async t => {
  t.strictSame(clean('host', 'a', 'connection', 'host').forward, ['host', 'a'])
})

t.test('a second field of which only one may be is refused', async t => {
  const single = [
    'host',
    'authorization',
    'content-type',
    'content-length',
    'x-tenant-key',
    'Origin',
  ]
  for (const name of single) {
    t.equal(
      code(() => clean(name, '1', name.toUpperCase(), '1')),
      'BAD_REQUEST',
      name,
    )
  }
  t.strictSame(clean('accept', 'a', 'accept', 'b').forward, ['accept', 'a', 'accept', 'b'])
})

t.test('one field past the bound is refused, whatever it says', async t => {
  const fields = (count: number) => Array.from({ length: count }, (_, i) => [`f${i}`, '1']).flat()
  t.equal(names(cleanHeaders(fields(FIELDS_MAX), FIELDS_MAX).forward).length, FIELDS_MAX)
  t.equal(
    code(() => cleanHeaders(fields(FIELDS_MAX + 1), FIELDS_MAX)),
    'HEADERS_TOO_LARGE',
  )
})

t.test('the fields that the gateway reads are found in any case', async t => {
  const head = clean(
    'AUTHORIZATION',
    'Bearer x',
    'X-Tenant-Key',
    'acme',
    'hOST',
    'h',
    'Upgrade',
    'w',
  )
  t.match(head, { authorization: 'Bearer x', tenantKey: 'acme', host: 'h', upgrade: 'w' })
  t.equal(clean('x_tenant_key', 'acme').tenantKey, null, 'and only in the exact spelling')
})
