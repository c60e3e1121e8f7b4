import t from 'tap'
import { makeSampler } from '../registry/lib/trace/sampler.ts'
import { RANDOM, SAMPLED } from '../registry/lib/trace/trace-context.ts'
import { makeExchange } from './exchange.ts'
import { makeTrustedProxies } from './forwarded.ts'
import { cleanHeaders } from './headers.ts'
import { addTraceFields, beginTrace } from './trace.ts'

const traceId = '0af7651916cd43dd8448eb211c80319c'
const given = (flags: string) => ['traceparent', `00-${traceId}-b7ad6b7169203331-${flags}`]
const TRUSTED = makeTrustedProxies(['10.0.0.0/8'])

function begun(
  fields: readonly string[],
  sampler: Parameters<typeof makeSampler>[0] | null,
  address = '192.0.2.1',
) {
  const client = { address, isTls: false }
  const exchange = makeExchange('GET', '/', [], client, null, null as never, null)
  exchange.head = cleanHeaders(fields, 100)
  beginTrace(exchange, TRUSTED, sampler === null ? null : makeSampler(sampler, 0))
  return exchange
}

t.test('a trace is continued with a span of our own, or begun', async t => {
  const exchange = begun([...given('01'), 'tracestate', 'a=1', 'tracestate', 'b=2'], null)
  t.match(exchange, { traceId, parentSpanId: 'b7ad6b7169203331', traceFlags: SAMPLED })
  const headers: string[] = []
  addTraceFields(headers, exchange)
  t.strictSame(headers, [
    'traceparent',
    `00-${traceId}-${exchange.spanId}-01`,
    'tracestate',
    'a=1, b=2',
  ])
  t.not(exchange.spanId, exchange.parentSpanId)
  for (const bad of [[], ['traceparent', 'x']]) {
    const fresh = begun([...bad, 'tracestate', 'a=1'], null)
    t.match(fresh.traceId, /^[0-9a-f]{32}$/)
    t.match(fresh, { parentSpanId: '', traceFlags: RANDOM, isTraceKept: false })
    const headers: string[] = []
    addTraceFields(headers, fresh)
    t.equal(headers.length, 2, 'a state without its trace is nobody’s')
  }
  const ids = Array.from({ length: 1000 }, () => begun([], null).traceId)
  t.equal(new Set(ids).size, 1000)
})

t.test('without export the wish of the caller goes on as it is', async t => {
  t.match(begun(given('01'), null, '10.1.1.1'), { traceFlags: SAMPLED, isTraceKept: true })
  t.match(begun(given('00'), null, '10.1.1.1'), { traceFlags: 0, isTraceKept: false })
  // It may be anybody's: no figure shows it.
  t.match(begun(given('01'), null), { traceFlags: SAMPLED, isTraceKept: false })
})

t.test('with export a trusted proxy decides, and nobody else can fill the store', async t => {
  const kept = { traceFlags: SAMPLED, isTraceKept: true }
  const dropped = { traceFlags: 0, isTraceKept: false }
  t.match(begun(given('01'), 'parentbased_always_off', '10.1.1.1'), kept)
  t.match(begun(given('00'), 'parentbased_always_on', '10.1.1.1'), dropped)
  t.match(begun(given('01'), 'parentbased_always_off'), dropped)
  t.match(begun(given('00'), 'parentbased_always_on'), kept)
  t.match(begun([], 'always_on'), { traceFlags: SAMPLED | RANDOM, isTraceKept: true })
  t.equal(begun(given('03'), 'always_off').traceFlags, RANDOM)
})
