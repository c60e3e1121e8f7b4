import { Counter, Gauge, Histogram, Registry } from 'prom-client'
import t from 'tap'
import { ClusterFigures } from './cluster-figures.ts'

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
  const text = await new ClusterFigures().view([one, two]).metrics()
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
  const text = await figures.view([await makeWorker(1, 2)()]).metrics()
  t.match(text, /^c_total\{route="a"\} 9$/m)
  t.match(text, /^h_bucket\{le="2"\} 9$/m)
  t.match(text, /^h_count 9$/m)
  t.match(text, /^open 1$/m)
  t.match(text, /^age 2$/m)
  const alone = await figures.view([]).metrics()
  t.match(alone, /^c_total\{route="a"\} 8$/m)
  t.notMatch(alone, /^(open|age)/m)
})

t.test('looking changes nothing', async t => {
  const figures = new ClusterFigures()
  figures.retire(await makeWorker(3, 9)())
  const living = [await makeWorker(1, 2)()]
  const first = await figures.view(living).metrics()
  t.equal(await figures.view(living).metrics(), first)
})
