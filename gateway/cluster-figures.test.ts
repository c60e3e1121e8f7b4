import { Counter, Gauge, Histogram, Registry } from 'prom-client'
import t from 'tap'
import { expose, type Figures } from '../registry/lib/exposition.ts'
import type { TenantId, TenantKey } from '../registry/tenant.ts'
import { AffectedTenants } from './affected-tenants.ts'
import { ClusterFigures } from './cluster-figures.ts'
import { TenantSeries } from './tenant-series.ts'

const shown = async (figures: Figures, accept?: string) => (await expose(figures, accept)).text

/** A worker's registry with something in it of each kind. */
function makeWorker(requests: number, ageS: number) {
  const registers = [new Registry()]
  const counter = new Counter({ name: 'c_total', help: 'c', labelNames: ['route'], registers })
  counter.inc({ route: 'a' }, requests)
  const histogram = new Histogram({ name: 'h', help: 'h', buckets: [1, 2], registers })
  for (let i = 0; i < requests; i++) histogram.observe(1.5)
  new Gauge({ name: 'open', help: 'g', registers }).set(requests)
  new Gauge({ name: 'age', help: 'g', aggregator: 'max', registers }).set(ageS)
  new Gauge({ name: 'nodejs_eventloop_lag_p99_seconds', help: 'g', registers }).set(ageS)
  // Over the channel they are copies.
  return async () => structuredClone(await (registers[0] as Registry).getMetricsAsJSON())
}

t.test('counters and histograms add up, gauges by the aggregator of each', async t => {
  const [one, two] = [await makeWorker(3, 7)(), await makeWorker(4, 5)()]
  const text = await shown(new ClusterFigures().view([one, two]))
  t.match(text, /^c_total\{route="a"\} 7$/m)
  t.match(text, /^h_bucket\{le="1"\} 0$/m)
  t.match(text, /^h_bucket\{le="2"\} 7$/m)
  t.match(text, /^h_bucket\{le="\+Inf"\} 7$/m)
  t.match(text, /^h_sum 10.5$/m)
  t.match(text, /^h_count 7$/m)
  t.match(text, /^open 7$/m)
  t.match(text, /^age 7$/m)
  t.match(text, /^nodejs_eventloop_lag_p99_seconds 7$/m, 'the worst, not the mean')
})

t.test('what workers that are gone have counted stays, what they measured does not', async t => {
  const figures = new ClusterFigures()
  figures.retire(await makeWorker(3, 9)())
  figures.retire(await makeWorker(5, 9)())
  figures.retire([])
  const text = await shown(figures.view([await makeWorker(1, 2)()]))
  t.match(text, /^c_total\{route="a"\} 9$/m)
  t.match(text, /^h_bucket\{le="2"\} 9$/m)
  t.match(text, /^h_count 9$/m)
  t.match(text, /^open 1$/m)
  t.match(text, /^age 2$/m)
  const alone = await shown(figures.view([]))
  t.match(alone, /^c_total\{route="a"\} 8$/m)
  t.notMatch(alone, /^(open|age)/m)
})

t.test('looking changes nothing', async t => {
  const figures = new ClusterFigures()
  figures.retire(await makeWorker(3, 9)())
  const living = [await makeWorker(1, 2)()]
  const first = await shown(figures.view(living))
  t.equal(await shown(figures.view(living)), first)
})

t.test('tenants are counted once over workers, however many of them they met', async t => {
  const nowMs = Date.now()
  const workers = [0, 50, 100].map(async from => {
    const registry = new Registry()
    const affected = new AffectedTenants()
    affected.show(registry)
    for (let i = from; i < from + 100; i++) affected.note(`tenant-${i}` as TenantId, nowMs)
    return structuredClone(await registry.getMetricsAsJSON())
  })
  const text = await shown(new ClusterFigures().view(await Promise.all(workers)))
  t.match(text, /^doorman_tenants_affected (19[6-9]|20[0-4])$/m, 'neither 300 nor 100')
})

t.test('of exemplars the newest of a bucket is shown, in OpenMetrics alone', async t => {
  const withTrace = (trace_id: string, timestamp: number): Figures => [
    {
      name: 'h',
      help: 'h',
      type: 'histogram' as never,
      aggregator: 'sum',
      collect: undefined as never,
      values: [
        {
          metricName: 'h_bucket',
          labels: { le: '+Inf', route: 'a' },
          value: 1,
          exemplar: { labelSet: { trace_id }, value: 0.5, timestamp },
        },
      ] as never,
    },
  ]
  const figures = new ClusterFigures()
  figures.retire(withTrace('old', 100))
  const view = () => figures.view([withTrace('new', 300), withTrace('other', 200)])
  const open = await shown(view(), 'application/openmetrics-text;version=1.0.0')
  t.match(open, 'h_bucket{le="+Inf",route="a"} 3 # {trace_id="new"} 0.5 300')
  t.match(open, /# EOF\n$/)
  t.notMatch(await shown(view()), 'trace_id')
})

t.test('a worker that ended leaves no series of the tenants that it named', async t => {
  const registry = new Registry()
  const series = new TenantSeries({
    tenantsMax: 1,
    busiest: () => [{ id: 'id-1' as TenantId, key: 'acme' as TenantKey, requests: 3 }],
    assign: (_, cell) => cell?.note(200, 5, null),
  })
  series.show(registry)
  series.others.note(200, 5, null)
  const living = structuredClone(await registry.getMetricsAsJSON())
  const figures = new ClusterFigures()
  t.match(
    await shown(figures.view([living])),
    'doorman_tenant_requests_total{tenant="acme",status="2xx"} 1',
  )
  figures.retire(living)
  figures.retire(living)
  const text = await shown(figures.view([]))
  t.notMatch(text, 'acme')
  t.match(text, 'doorman_tenant_requests_total{tenant="other",status="2xx"} 4')
  t.match(text, 'doorman_tenant_seconds_count{tenant="other"} 4')
})
