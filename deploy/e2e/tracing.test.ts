import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import t from 'tap'
import { call } from './call.ts'
import { startWorld } from './test-kit.ts'

interface Attribute {
  readonly key: string
  readonly value: Readonly<Record<string, unknown>>
}

interface Span {
  readonly traceId: string
  readonly spanId: string
  readonly parentSpanId?: string
  readonly name: string
  readonly kind: number
  readonly flags: number
  readonly startTimeUnixNano: string
  readonly endTimeUnixNano: string
  readonly attributes: readonly Attribute[]
  readonly status?: { readonly code: number }
  /** Added here: who sent it. */
  readonly service: string
}

const WAIT_MS = 10_000
const traceId = '0af7651916cd43dd8448eb211c80319c'
const callerSpanId = 'b7ad6b7169203331'
const traceparent = `00-${traceId}-${callerSpanId}-01`

/** Takes what OTLP/HTTP lets a collector take, and nothing else. */
async function startCollector() {
  const spans: Span[] = []
  const texts: string[] = []
  const problems: string[] = []
  const keys = new Set<unknown>()
  const server = createServer(async (request, response) => {
    const chunks: Buffer[] = []
    for await (const chunk of request) chunks.push(chunk)
    const text = Buffer.concat(chunks).toString()
    texts.push(text)
    keys.add(request.headers['x-collector-key'])
    if (request.method !== 'POST' || request.url !== '/v1/traces') problems.push('wrong place')
    if (request.headers['content-type'] !== 'application/json') problems.push('wrong type')
    const found = readRequest(JSON.parse(text), problems)
    spans.push(...found)
    response.writeHead(200, { 'content-type': 'application/json' }).end('{"partialSuccess":{}}')
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  return { spans, texts, problems, keys, server, endpoint: `http://127.0.0.1:${port}` }
}

/** ExportTraceServiceRequest of opentelemetry-proto, as its JSON mapping wants it. */
function readRequest(request: unknown, problems: string[]): Span[] {
  const { resourceSpans } = request as {
    resourceSpans: {
      resource: { attributes: Attribute[] }
      scopeSpans: { scope: { name: string }; spans: Omit<Span, 'service'>[] }[]
    }[]
  }
  return resourceSpans.flatMap(({ resource, scopeSpans }) => {
    const service = attributeOf(resource.attributes, 'service.name')
    if (typeof service !== 'string') problems.push('a resource without service.name')
    return scopeSpans.flatMap(({ scope, spans }) => {
      if (scope.name === '') problems.push('a scope without a name')
      for (const span of spans) problems.push(...problemsOf(span))
      return spans.map(span => ({ ...span, service: String(service) }))
    })
  })
}

function problemsOf(span: Omit<Span, 'service'>): string[] {
  const checks: readonly [boolean, string][] = [
    [/^(?!0{32})[0-9a-f]{32}$/.test(span.traceId), 'traceId'],
    [/^(?!0{16})[0-9a-f]{16}$/.test(span.spanId), 'spanId'],
    [span.parentSpanId === undefined || /^[0-9a-f]{16}$/.test(span.parentSpanId), 'parentSpanId'],
    [span.name.length > 0 && span.name.length < 100, 'name'],
    [span.kind === 2 || span.kind === 3, 'kind'],
    [/^\d{19}$/.test(span.startTimeUnixNano), 'startTimeUnixNano'],
    [BigInt(span.endTimeUnixNano) >= BigInt(span.startTimeUnixNano), 'endTimeUnixNano'],
    [Number.isInteger(span.flags), 'flags'],
    [span.status === undefined || span.status.code === 2, 'status'],
    [
      span.attributes.every(({ key, value }) => {
        const [type = '', ...more] = Object.keys(value)
        const isKnown = ['stringValue', 'intValue', 'doubleValue', 'boolValue'].includes(type)
        const isText = type !== 'intValue' || typeof value.intValue === 'string'
        return key !== '' && more.length === 0 && isKnown && isText
      }),
      'attributes',
    ],
    [new Set(span.attributes.map(({ key }) => key)).size === span.attributes.length, 'keys'],
  ]
  return checks.filter(([isGood]) => !isGood).map(([, what]) => `${span.name}: ${what}`)
}

function attributeOf(attributes: readonly Attribute[], key: string): unknown {
  const { value = {} } = attributes.find(attribute => attribute.key === key) ?? {}
  return Object.values(value)[0]
}

t.test('one trace from the client to the tenant’s database and bucket', async t => {
  const collector = await startCollector()
  const collectorKey = randomBytes(24).toString('hex')
  const env = {
    OTEL_EXPORTER_OTLP_ENDPOINT: collector.endpoint,
    OTEL_EXPORTER_OTLP_HEADERS: `x-collector-key=${collectorKey}`,
    OTEL_BSP_SCHEDULE_DELAY: '50',
    // What begins elsewhere, or is nobody's whose word counts, is not kept.
    OTEL_TRACES_SAMPLER: 'parentbased_always_off',
    TRUSTED_PROXIES: '127.0.0.1',
  }
  const world = await startWorld({ apps: 1, gatewayEnv: env, appEnv: env })
  world.leaks.plant('key of the collector', collectorKey)
  t.teardown(async () => {
    await world.close()
    collector.server.closeAllConnections()
    collector.server.close()
  })
  const { accessToken: token } = await world.login(world.acme)
  const traced = { token, headers: { traceparent } }
  const until = async (isThere: (spans: readonly Span[]) => boolean) => {
    const deadline = Date.now() + WAIT_MS
    while (!isThere(collector.spans)) {
      if (Date.now() > deadline) throw new Error(JSON.stringify(collector.spans, null, 1))
      await new Promise(resolve => setTimeout(resolve, 20))
    }
  }
  const of = (service: string, kind: number) =>
    collector.spans.filter(span => span.service === service && span.kind === kind)
  t.beforeEach(() => {
    collector.spans.length = 0
    collector.texts.length = 0
  })

  t.test(
    'gateway and app tell of the same request, each span within the one that caused it',
    async t => {
      const json = { name: 'a project' }
      const path = '/api/projects?secret_in_query=planted'
      const made = await world.call(path, { ...traced, method: 'POST', json })
      t.equal(made.status, 201)
      await until(spans => spans.some(({ name }) => name === 'INSERT') && spans.length >= 4)
      await until(() => of('doorman-gateway', 2).length > 0 && of('doorman-app', 2).length > 0)
      t.same(collector.problems, [])
      t.same([...collector.keys], [collectorKey])
      for (const span of collector.spans) t.equal(span.traceId, traceId, span.name)
      const [served] = of('doorman-gateway', 2)
      const [sent] = of('doorman-gateway', 3)
      const [handled] = of('doorman-app', 2)
      t.equal(served?.parentSpanId, callerSpanId)
      t.equal(sent?.parentSpanId, served?.spanId)
      t.equal(handled?.parentSpanId, sent?.spanId)
      const statements = of('doorman-app', 3).filter(({ name }) => !name.startsWith('wait'))
      t.strictSame(
        statements.map(({ name }) => name),
        ['BEGIN', 'INSERT', 'COMMIT'],
      )
      for (const span of statements) t.equal(span.parentSpanId, handled?.spanId, span.name)
      const attributes = served?.attributes ?? []
      const wanted = {
        'http.request.method': 'POST',
        'url.path': '/api/projects',
        'http.route': 'api',
        'http.response.status_code': '201',
        'doorman.tenant.id': world.acme.id,
        'doorman.tenant.key': 'acme',
      }
      for (const [key, value] of Object.entries(wanted))
        t.equal(attributeOf(attributes, key), value, key)
      t.type(attributeOf(attributes, 'doorman.admit_ms'), 'number')
      t.equal(attributeOf(handled?.attributes ?? [], 'http.route'), '/api/projects')
      const text = collector.texts.join()
      t.notMatch(text, 'planted', 'no query')
      t.notMatch(text, 'a project', 'nothing of the body')
      t.notMatch(text, token, 'no token')
      const requestId = made.headers['x-request-id'] as string
      for (const { lines } of [world.gateway, ...world.apps]) {
        const isOfRequest = (text: string) =>
          text.includes(requestId) && text.includes('"msg":"request"')
        // It is written after the answer, and comes through a pipe.
        await until(() => lines.some(isOfRequest))
        t.match(JSON.parse(lines.find(isOfRequest) ?? '{}'), { trace_id: traceId })
      }
    },
  )

  t.test('a bucket’s operations are in it, and failures say what they are', async t => {
    const file = { ...traced, method: 'PUT', body: 'content', headers: { ...traced.headers } }
    t.ok((await world.call('/api/files/secret-name.txt', file)).status < 300)
    t.equal((await world.call('/api/files/none.txt', traced)).status, 404)
    await until(spans => spans.some(({ name }) => name === 'S3 GetObject'))
    await until(() => of('doorman-gateway', 2).length >= 2 && of('doorman-app', 2).length >= 2)
    t.ok(collector.spans.some(({ name }) => name === 'S3 PutObject'))
    const failed = collector.spans.find(({ name }) => name === 'S3 GetObject')
    t.strictSame(failed?.status, { code: 2 })
    t.equal(attributeOf(failed?.attributes ?? [], 'error.type'), 'NOT_FOUND')
    t.same(collector.problems, [])
  })

  t.test('what nobody keeps is told to nobody, and still goes on', async t => {
    await world.call('/api/whoami', { token })
    await world.call('/api/whoami', {
      token,
      headers: { traceparent: traceparent.replace(/01$/, '00') },
    })
    await world.call('/api/whoami', traced)
    await until(() => of('doorman-app', 2).length >= 1 && of('doorman-gateway', 2).length >= 1)
    t.equal(of('doorman-gateway', 2).length, 1)
    t.equal(of('doorman-app', 2).length, 1)
    for (const [i, prefix] of ['doorman', 'doorman_app'].entries()) {
      const { adminOrigin } = [world.gateway, ...world.apps][i] ?? world.gateway
      const { text } = await call(adminOrigin, '/metrics')
      t.match(text, new RegExp(`^${prefix}_spans_total\\{outcome="exported"\\} [1-9]`, 'm'))
      t.match(text, new RegExp(`^${prefix}_spans_total\\{outcome="dropped"\\} 0$`, 'm'))
      const headers = { accept: 'application/openmetrics-text;version=1.0.0' }
      const open = (await call(adminOrigin, '/metrics', { headers })).text
      const exemplar = `^${prefix}_request_seconds_bucket\\{.*\\} \\d+ # \\{trace_id="${traceId}"\\} `
      t.match(open, new RegExp(exemplar, 'm'), 'the trace is beside the figure')
      t.notMatch(text, 'trace_id', 'and not where there is no room for it')
    }
  })

  t.test('a collector that is away is nobody’s trouble', async t => {
    collector.server.closeAllConnections()
    collector.server.close()
    for (let i = 0; i < 5; i++) t.equal((await world.call('/api/whoami', traced)).status, 200)
  })
})
