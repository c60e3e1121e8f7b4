import { encodeSpans } from './otlp.ts'
import { SERVER, type Span } from './span.ts'
import { makeSpanId, makeTraceId } from './trace-context.ts'

/*
 * What a span costs: `node registry/lib/trace/span-cost.ts`. Prints one line of JSON: nanoseconds to make one with its ids, and
 * to write it, in the median of many batches.
 */
const BATCHES = 300
const BATCH = 512

const made: number[] = []
const written: number[] = []
let bytes = 0
for (let batch = 0; batch < BATCHES; batch++) {
  const spans: Span[] = []
  const startedAt = performance.now()
  for (let i = 0; i < BATCH; i++) spans.push(makeSpan(i))
  const madeAt = performance.now()
  bytes = encodeSpans([], spans, Date.now(), performance.now()).length
  const writtenAt = performance.now()
  made.push(((madeAt - startedAt) * 1e6) / BATCH)
  written.push(((writtenAt - madeAt) * 1e6) / BATCH)
}
const figures = { nsToMake: median(made), nsToWrite: median(written), bytes: bytes / BATCH }
process.stdout.write(`${JSON.stringify(figures)}\n`)

/** As many attributes as a request's span of the gateway has. */
function makeSpan(i: number): Span {
  return {
    traceId: makeTraceId(),
    spanId: makeSpanId(),
    parentSpanId: '',
    flags: 1,
    tracestate: null,
    kind: SERVER,
    name: 'GET api',
    startedAt: performance.now(),
    endedAt: performance.now(),
    isError: false,
    attributes: [
      ...['http.request.method', 'GET', 'url.path', '/api/projects', 'http.route', 'api'],
      ...['url.scheme', 'http', 'http.response.status_code', 200 + (i % 3)],
      ...['client.address', '192.0.2.1', 'server.address', 'api.example'],
      ...['doorman.request_id', 'a', 'doorman.tenant.id', 'b', 'doorman.tenant.key', 'acme'],
      ...['doorman.admit_ms', 0.05, 'doorman.wait_ms', 0.04, 'doorman.upstream_ms', 3.2],
    ],
  }
}

function median(values: number[]): number {
  return Math.round(values.sort((a, b) => a - b)[values.length >> 1] as number)
}
