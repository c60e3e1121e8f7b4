import t from 'tap'
import { type EnvError, readEnv } from '../env.ts'
import { otelEnv, traceOptions } from './otel-env.ts'

const read = (env: NodeJS.ProcessEnv) =>
  traceOptions(readEnv(otelEnv, env), { 'service.name': 'own', 'service.version': '1' })
const problems = (env: NodeJS.ProcessEnv) => {
  try {
    read(env)
    return []
  } catch (error) {
    return (error as EnvError).problems
  }
}

t.test('without an endpoint nothing is exported', async t => {
  t.equal(read({}), null)
  t.equal(read({ OTEL_EXPORTER_OTLP_ENDPOINT: '', OTEL_SERVICE_NAME: 'x' }), null)
})

t.test('the variables mean what the specification says', async t => {
  const base = { OTEL_EXPORTER_OTLP_ENDPOINT: 'http://collector:4318/' }
  t.match(read(base)?.exporter, { url: 'http://collector:4318/v1/traces', timeoutMs: 10_000 })
  const own = { OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: 'https://traces.example/in?x=1' }
  t.equal(read({ ...base, ...own })?.exporter.url, 'https://traces.example/in?x=1')
  const full = read({
    ...base,
    OTEL_EXPORTER_OTLP_HEADERS: 'x-key=a%20b, y=2=3',
    OTEL_SERVICE_NAME: 'edge',
    OTEL_RESOURCE_ATTRIBUTES: 'service.name=lost,service.version=2,team=caf%C3%A9',
  })
  t.strictSame(full?.exporter.headers, { 'x-key': 'a b', y: '2=3' })
  t.strictSame(full?.exporter.resource, [
    ...['service.name', 'edge', 'service.version', '2', 'team', 'café'],
  ])
  t.equal(read(base)?.sampler(null, 'f'.repeat(32)), true, 'all are kept by default')
  const few = { OTEL_TRACES_SAMPLER: 'traceidratio', OTEL_TRACES_SAMPLER_ARG: '0.01' }
  t.equal(read({ ...base, ...few })?.sampler(null, 'f'.repeat(32)), false)
})

t.test('what is none is refused, without a word of it', async t => {
  for (const [name, value] of [
    ['OTEL_EXPORTER_OTLP_ENDPOINT', 'collector:4318'],
    ['OTEL_EXPORTER_OTLP_HEADERS', 'planted-secret'],
    ['OTEL_EXPORTER_OTLP_HEADERS', 'x=planted-secret%0d%0ay: z'],
    ['OTEL_EXPORTER_OTLP_HEADERS', 'x=planted-secret%zz'],
    ['OTEL_TRACES_SAMPLER', 'jaeger_remote'],
    ['OTEL_TRACES_SAMPLER_ARG', '1.5'],
    ['OTEL_TRACES_SAMPLER_ARG', '-1'],
  ] as const) {
    const found = problems({ [name]: value })
    t.equal(found.length, 1, `${name}=${value}`)
    t.match(found[0], name)
    t.notMatch(found.join(), 'planted')
  }
})
