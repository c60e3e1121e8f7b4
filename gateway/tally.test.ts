import { Registry } from 'prom-client'
import t from 'tap'
import { expose } from '../registry/lib/exposition.ts'
import { type Ended, Tally } from './tally.ts'

/** One that came at 1,000 ms. */
function ended(over: Partial<Ended> = {}): Ended {
  return {
    status: 200,
    startedAt: 1000,
    sentAt: 0,
    upstreamHeadAt: 0,
    answeredAt: 0,
    traceId: 'a'.repeat(32),
    isTraceKept: false,
    ...over,
  }
}

t.test('every request is shown, cumulatively by bucket', async t => {
  const tally = new Tally()
  const registry = new Registry()
  tally.register(registry)
  const answered = { sentAt: 1000.3, upstreamHeadAt: 1000.7, answeredAt: 1000.9 }
  tally.observe('api', ended(answered), 0.9)
  tally.observe('api', ended({ ...answered, status: 204, upstreamHeadAt: 1002.3 }), 3)
  tally.observe('api', ended({ status: 503 }), 40_000)
  tally.observe('login', ended({ status: 0 }), 1)
  tally.refuse(431)
  const text = await registry.metrics()
  for (const line of [
    '# TYPE doorman_requests_total counter',
    'doorman_requests_total{route="api",status="2xx"} 2',
    'doorman_requests_total{route="api",status="5xx"} 1',
    'doorman_requests_total{route="login",status="gone"} 1',
    'doorman_requests_total{route="none",status="4xx"} 1',
    '# TYPE doorman_request_seconds histogram',
    'doorman_request_seconds_bucket{route="api",le="0.001"} 1',
    'doorman_request_seconds_bucket{route="api",le="0.005"} 2',
    'doorman_request_seconds_bucket{route="api",le="30"} 2',
    'doorman_request_seconds_bucket{route="api",le="+Inf"} 3',
    'doorman_request_seconds_count{route="api"} 3',
    'doorman_upstream_seconds_bucket{route="api",le="0.001"} 1',
    'doorman_upstream_seconds_count{route="api"} 2',
    'doorman_upstream_seconds_bucket{route="login",le="+Inf"} 0',
  ]) {
    t.ok(text.split('\n').includes(line), line)
  }
  t.match(text, /doorman_request_seconds_sum\{route="api"\} 40\.0039/)
})

t.test('what the gateway adds is counted apart from what the upstream takes', async t => {
  const tally = new Tally()
  const registry = new Registry()
  tally.register(registry)
  tally.observe('api', ended({ sentAt: 1003, upstreamHeadAt: 1903, answeredAt: 1904 }), 950)
  const text = await registry.metrics()
  t.match(text, /doorman_added_seconds_sum\{route="api"\} 0\.004$/m)
  t.match(text, /doorman_upstream_seconds_sum\{route="api"\} 0\.9$/m)
})

t.test('a trace that somebody keeps is shown beside its bucket, and no other', async t => {
  const tally = new Tally()
  const registry = new Registry()
  tally.register(registry)
  tally.observe('api', ended({ isTraceKept: true }), 7)
  tally.observe('api', ended({ traceId: 'b'.repeat(32) }), 8)
  tally.observe('api', ended({ traceId: 'c'.repeat(32), isTraceKept: true }), 700)
  const figures = await registry.getMetricsAsJSON()
  const open = await expose(
    figures,
    'application/openmetrics-text; version=1.0.0, text/plain;q=0.5',
  )
  t.match(open.contentType, /^application\/openmetrics-text; version=1\.0\.0/)
  t.match(
    open.text,
    /^doorman_request_seconds_bucket\{route="api",le="0\.01"\} 2 # \{trace_id="a{32}"\} 0\.007 \d+(\.\d+)?$/m,
  )
  t.match(open.text, /le="1"\} 3 # \{trace_id="c{32}"\} 0\.7 /)
  t.notMatch(open.text, 'bbbb')
  t.match(open.text, /^# TYPE doorman_requests counter\n(# .*\n)?doorman_requests_total\{/m)
  t.notMatch(open.text, '_total_total')
  const plain = await expose(
    figures,
    'text/plain;version=0.0.4, application/openmetrics-text;q=0.1',
  )
  t.match(plain.contentType, /^text\/plain; version=0\.0\.4/)
  t.notMatch(plain.text, 'trace_id')
  t.equal(open.text.split('\n').at(-2), '# EOF')
})
