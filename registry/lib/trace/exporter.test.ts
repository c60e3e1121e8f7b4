import { once } from 'node:events'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import t, { type Test } from 'tap'
import { makeLog } from '../log.ts'
import { type ExporterOptions, SpanExporter } from './exporter.ts'
import { SERVER, type Span } from './span.ts'
import { makeSpanId, makeTraceId } from './trace-context.ts'

interface Batch {
  readonly resourceSpans: {
    resource: { attributes: { key: string; value: object }[] }
    scopeSpans: { spans: Record<string, unknown>[] }[]
  }[]
}

const span = (over: Partial<Span> = {}): Span => ({
  traceId: makeTraceId(),
  spanId: makeSpanId(),
  parentSpanId: '',
  flags: 1,
  tracestate: null,
  kind: SERVER,
  name: 'GET api',
  startedAt: performance.now() - 5,
  endedAt: performance.now(),
  attributes: ['text', 'a', 'whole', 7, 'part', 0.5, 'yes', true, 'none', undefined],
  isError: false,
  ...over,
})

/** A collector whose answers the test writes. */
async function setUp(t: Test, over: Partial<ExporterOptions> = {}) {
  const bodies: string[] = []
  const requests: IncomingMessage[] = []
  const lines: Record<string, unknown>[] = []
  const world = {
    bodies,
    requests,
    lines,
    answer: (response: ServerResponse) => void response.end('{}'),
    spans: () =>
      bodies
        .map(body => JSON.parse(body) as Batch)
        .flatMap(({ resourceSpans }) => resourceSpans)
        .flatMap(({ scopeSpans }) => scopeSpans)
        .flatMap(({ spans }) => spans),
  }
  const server = createServer(async (request, response) => {
    const chunks: Buffer[] = []
    for await (const chunk of request) chunks.push(chunk)
    bodies.push(Buffer.concat(chunks).toString())
    requests.push(request)
    world.answer(response)
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  const log = makeLog('test', 'info', { write: line => void lines.push(JSON.parse(line)) })
  const exporter = new SpanExporter({
    url: `http://127.0.0.1:${port}/v1/traces`,
    headers: { 'x-collector-key': 'planted-collector-key' },
    timeoutMs: 300,
    resource: ['service.name', 'test'],
    log,
    delayMs: 5,
    backoffMs: 1,
    ...over,
  })
  t.teardown(async () => {
    await exporter.close(100)
    server.closeAllConnections()
    server.close()
  })
  return { ...world, world, exporter, server }
}

async function until(holds: () => boolean): Promise<void> {
  const deadline = Date.now() + 5000
  while (!holds()) {
    if (Date.now() > deadline) throw new Error('it did not come to hold')
    await new Promise(resolve => setTimeout(resolve, 2))
  }
}

t.test('spans arrive in a batch, in the JSON of OTLP', async t => {
  const { exporter, requests, bodies, spans } = await setUp(t)
  const sent = span({ parentSpanId: makeSpanId(), tracestate: 'a=1', isError: true })
  exporter.add(sent)
  exporter.add(span())
  await until(() => exporter.figures.exported === 2)
  t.equal(requests.length, 1)
  t.match(requests[0], {
    method: 'POST',
    url: '/v1/traces',
    headers: { 'content-type': 'application/json', 'x-collector-key': 'planted-collector-key' },
  })
  const { traceId, spanId, parentSpanId } = sent
  const [first, second] = spans()
  t.match(first, { traceId, spanId, parentSpanId, traceState: 'a=1', flags: 1, kind: 2 })
  t.strictSame(first?.status, { code: 2 })
  t.strictSame(first?.attributes, [
    { key: 'text', value: { stringValue: 'a' } },
    { key: 'whole', value: { intValue: '7' } },
    { key: 'part', value: { doubleValue: 0.5 } },
    { key: 'yes', value: { boolValue: true } },
  ])
  t.notOk('parentSpanId' in (second ?? {}))
  const [start, end] = [first?.startTimeUnixNano, first?.endTimeUnixNano].map(n => Number(n) / 1e6)
  t.ok(Math.abs((end as number) - Date.now()) < 10_000, 'the time of day')
  t.ok((end as number) - (start as number) > 4)
  const { resource } = (JSON.parse(bodies[0] as string) as Batch).resourceSpans[0] ?? {}
  t.strictSame(resource?.attributes, [{ key: 'service.name', value: { stringValue: 'test' } }])
})

t.test('what the collector cannot take now is sent again, what it refuses is not', async t => {
  const { exporter, world, requests, lines } = await setUp(t)
  const statuses = [503, 429, 200]
  world.answer = response => void response.writeHead(statuses.shift() ?? 200).end('{}')
  exporter.add(span())
  await until(() => exporter.figures.exported === 1)
  t.equal(requests.length, 3)
  world.answer = response => void response.writeHead(400).end('no')
  exporter.add(span())
  await until(() => exporter.figures.failed === 1)
  t.equal(requests.length, 4)
  world.answer = response => void response.end('{"partialSuccess":{"rejectedSpans":"1"}}')
  exporter.add(span())
  exporter.add(span())
  await until(() => exporter.figures.failed === 2)
  t.equal(exporter.figures.exported, 2)
  t.match(
    lines.map(({ msg }) => msg),
    ['spans not exported', 'spans are exported again'],
  )
  t.notMatch(JSON.stringify(lines), 'planted-collector-key')
})

t.test('a collector that is silent or away costs spans, counted, and nobody waits', async t => {
  const { exporter, world, server, lines } = await setUp(t, { timeoutMs: 100 })
  world.answer = () => {}
  const startedAt = performance.now()
  for (let i = 0; i < 10_000; i++) exporter.add(span())
  t.ok(performance.now() - startedAt < 2000)
  t.ok(exporter.figures.dropped >= 10_000 - 2048 - 512, 'the queue is bounded')
  await until(() => exporter.figures.failed >= 512)
  server.closeAllConnections()
  server.close()
  await until(() => exporter.figures.failed >= 1024)
  t.equal(exporter.figures.exported, 0)
  t.equal(lines.length, 1, 'told once')
})

t.test('spans that were taken are not sent again, whatever comes of the answer', async t => {
  const { exporter, world, requests } = await setUp(t, { timeoutMs: 100 })
  world.answer = response => void response.writeHead(200).write('{"partial')
  exporter.add(span())
  await until(() => exporter.figures.exported === 1)
  world.answer = response => void response.end('x'.repeat(200_000))
  exporter.add(span())
  await until(() => exporter.figures.exported === 2)
  t.equal(requests.length, 2)
  t.equal(exporter.figures.failed, 0)
})

t.test('the end of the process sends what waits, for as long as it may', async t => {
  const { exporter, spans } = await setUp(t, { delayMs: 60_000 })
  for (let i = 0; i < 700; i++) exporter.add(span())
  await exporter.close(5000)
  t.equal(spans().length, 700)
  exporter.add(span())
  t.equal(exporter.figures.dropped, 1)
  const silent = await setUp(t, { delayMs: 60_000, timeoutMs: 60_000 })
  silent.world.answer = () => {}
  silent.exporter.add(span())
  const startedAt = performance.now()
  await silent.exporter.close(50)
  t.ok(performance.now() - startedAt < 5000)
  t.match(silent.exporter.figures, { exported: 0, failed: 1 })
})
