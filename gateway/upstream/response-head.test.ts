import t from 'tap'
import { cleanResponseHeaders } from './response-head.ts'

t.test(
  'hop-by-hop fields, what Connection lists and our own names do not reach the client',
  async t => {
    const raw = ['Connection', 'X-Hop, close', 'x-hop', '1', 'Keep-Alive', 'timeout=5']
    raw.push('Transfer-Encoding', 'chunked', 'X-Tenant-Context', 'leak', 'x_tenant_request', 'leak')
    raw.push('X-Usage', 'pdf=1', 'Content-Length', '5', 'Date', 'x', 'X-Request-Id', 'y')
    raw.push('Set-Cookie', 'a=1', 'Set-Cookie', 'b=2', 'ETag', '"z"')
    t.strictSame(cleanResponseHeaders(raw, false, { appUsage: null }), [
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
  t.strictSame(cleanResponseHeaders(raw, false, { appUsage: null }), raw)
  t.strictSame(cleanResponseHeaders(raw, true, { appUsage: null }), ['Vary', 'Origin'])
})

t.test('x-usage in its own spelling is read, and in none does a client get it', async t => {
  const reader = { appUsage: null }
  const raw = [
    'X-Usage',
    'emails=3',
    'x-usage',
    'pdf_generated=1',
    'x_usage',
    'a=1',
    'x-usage-b',
    '1',
  ]
  t.strictSame(cleanResponseHeaders(raw, false, reader), [])
  t.strictSame(reader, { appUsage: 'emails=3, pdf_generated=1' })
})
