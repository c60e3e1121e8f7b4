import t from 'tap'
import { cleanResponseHeaders } from './response-head.ts'

t.test(
  'hop-by-hop fields, what Connection lists and our own names do not reach the client',
  async t => {
    const raw = ['Connection', 'X-Hop, close', 'x-hop', '1', 'Keep-Alive', 'timeout=5']
    raw.push('Transfer-Encoding', 'chunked', 'X-Tenant-Context', 'leak', 'x_tenant_request', 'leak')
    raw.push('X-Usage', 'pdf=1', 'Content-Length', '5', 'Date', 'x', 'X-Request-Id', 'y')
    raw.push('Set-Cookie', 'a=1', 'Set-Cookie', 'b=2', 'ETag', '"z"')
    t.strictSame(cleanResponseHeaders(raw, false), [
      'Set-Cookie',
      'a=1',
      'Set-Cookie',
      'b=2',
      'ETag',
      '"z"',
    ])
  },
)

t.test('the app’s CORS fields pass only where the gateway writes none', async t => {
  const raw = ['Access-Control-Allow-Origin', '*', 'Vary', 'Origin']
  t.strictSame(cleanResponseHeaders(raw, false), raw)
  t.strictSame(cleanResponseHeaders(raw, true), ['Vary', 'Origin'])
})
