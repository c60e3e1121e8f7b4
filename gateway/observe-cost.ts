import { randomUUID } from 'node:crypto'
import { performance } from 'node:perf_hooks'
import { Registry } from 'prom-client'
import { makeLog } from '../registry/lib/log.ts'
import { SpanExporter } from '../registry/lib/trace/exporter.ts'
import { makeSampler, type Sampler } from '../registry/lib/trace/sampler.ts'
import { type Exchange, makeExchange } from './exchange.ts'
import { makeTrustedProxies } from './forwarded.ts'
import { cleanHeaders } from './headers.ts'
import { Pulse } from './live/pulse.ts'
import { makeMetrics } from './metrics.ts'
import { recordSpans } from './spans.ts'
import { TenantSeries } from './tenant-series.ts'
import { addTraceFields, beginTrace } from './trace.ts'

/*
 * What it costs to observe a request, beside its access log line: `node gateway/observe-cost.ts`. Prints one line of JSON:
 * nanoseconds per request in the median of many short rounds, by what is on. `off` is the standard: a trace begun and passed
 * on, metrics, live counts and series. `exemplars`: every trace is kept by the caller. `traces`: exported, all or 1 %; what
 * is written in the background is not in it (registry/lib/trace/span-cost.ts).
 */
const ROUNDS = 400
const REQUESTS = 200
const TENANTS = 100
const GIVEN = ['traceparent', '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01']
const NOBODY = makeTrustedProxies([])
const ALL = makeTrustedProxies(['192.0.2.0/24'])

const tenants = Array.from({ length: TENANTS }, (_, i) => ({
  ...{ id: randomUUID(), key: `tenant-${i}`, status: 'active', debugUntilMs: 0 },
}))
const client = { address: '192.0.2.1', isTls: false }
const spans = new SpanExporter({
  ...{ url: 'http://127.0.0.1:9', headers: {}, timeoutMs: 10, resource: [] },
  log: makeLog('cost', 'silent'),
})

const modes: Record<string, [readonly string[], typeof ALL, Sampler | null]> = {
  off: [[], NOBODY, null],
  exemplars: [GIVEN, ALL, null],
  'traces 1 %': [[], NOBODY, makeSampler('parentbased_traceidratio', 0.01)],
  'traces all': [[], NOBODY, makeSampler('always_on', 1)],
}
const took: Record<string, number[]> = {}
const runs = Object.entries(modes).map(([name, mode]) => {
  took[name] = []
  return { name, run: makeRun(...mode) }
})
// In turn, so that what the machine does meanwhile meets all alike.
for (let round = 0; round < ROUNDS; round++) {
  for (const { name, run } of runs) took[name]?.push(run(round))
}
const ns = Object.fromEntries(Object.entries(took).map(([name, all]) => [name, median(all)]))
process.stdout.write(`${JSON.stringify({ nsPerRequest: ns })}\n`)
process.exit(0)

/** A round: all that is done for a request's observation, without the request. */
function makeRun(fields: readonly string[], trusted: typeof ALL, sampler: Sampler | null) {
  const pulse: Pulse = new Pulse(undefined, id => series.cellOf(id))
  const series: TenantSeries = new TenantSeries({
    tenantsMax: 20,
    busiest: (count, nowMs) => pulse.busiest(count, nowMs),
    assign: (id, cell) => pulse.assign(id, cell),
  })
  const metrics = makeMetrics({} as never, series)
  metrics.registry.clear()
  const shown = new Registry()
  series.show(shown)
  return (round: number): number => {
    const exchanges = Array.from({ length: REQUESTS }, (_, i) => makeRequest(fields, round + i))
    const startedAt = performance.now()
    for (const exchange of exchanges) {
      beginTrace(exchange, trusted, sampler)
      const headers: string[] = []
      addTraceFields(headers, exchange)
      exchange.signedAt = performance.now()
      exchange.sentAt = performance.now()
      exchange.upstreamHeadAt = performance.now()
      exchange.answeredAt = performance.now()
      const tookMs = performance.now() - exchange.startedAt
      const nowMs = Date.now()
      metrics.observe(exchange, pulse.note(exchange, nowMs), tookMs, nowMs)
      if (sampler !== null && exchange.isTraceKept) {
        recordSpans(spans, exchange, () => '192.0.2.1', tookMs)
      }
    }
    const ms = performance.now() - startedAt
    if (round % 50 === 0) series.update(Date.now())
    return (ms * 1e6) / REQUESTS
  }
}

function makeRequest(fields: readonly string[], i: number): Exchange {
  const exchange = makeExchange('GET', '/api/x', [], client, null, null as never, null)
  exchange.head = cleanHeaders(fields, 100)
  exchange.path = '/api/x'
  exchange.status = 200
  exchange.route = { name: 'api' } as never
  exchange.tenant = tenants[i % TENANTS] as never
  exchange.upstream = 'http://10.0.0.7:3000'
  exchange.attempts = 1
  return exchange
}

function median(values: number[]): number {
  return Math.round(values.sort((a, b) => a - b)[values.length >> 1] as number)
}
