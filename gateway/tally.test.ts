import { Registry } from 'prom-client'
import t from 'tap'
import { Tally } from './tally.ts'

t.test('every request is shown, cumulatively by bucket', async t => {
  const tally = new Tally()
  const registry = new Registry()
  tally.register(registry)
  tally.observe('api', 200, 0.9, 0.5)
  tally.observe('api', 204, 3, 2)
  tally.observe('api', 503, 40_000, null)
  tally.observe('login', 0, 1, null)
  const text = await registry.metrics()
  for (const line of [
    '# TYPE doorman_requests_total counter',
    'doorman_requests_total{route="api",status="2xx"} 2',
    'doorman_requests_total{route="api",status="5xx"} 1',
    'doorman_requests_total{route="login",status="gone"} 1',
    '# TYPE doorman_request_seconds histogram',
    'doorman_request_seconds_bucket{route="api",le="0.001"} 1',
    'doorman_request_seconds_bucket{route="api",le="0.005"} 2',
    'doorman_request_seconds_bucket{route="api",le="30"} 2',
    'doorman_request_seconds_bucket{route="api",le="+Inf"} 3',
    'doorman_request_seconds_count{route="api"} 3',
    'doorman_upstream_seconds_count{route="api"} 2',
    'doorman_upstream_seconds_bucket{route="login",le="+Inf"} 0',
  ]) {
    t.ok(text.split('\n').includes(line), line)
  }
  t.match(text, /doorman_request_seconds_sum\{route="api"\} 40\.0039/)
})
