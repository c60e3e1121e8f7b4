import {
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { parse } from 'yaml'
import { readAppConfig } from '../../app/config.ts'
import { readGatewayConfig } from '../../gateway/config.ts'
import { SECRET_NAMES } from '../../registry/lib/secret-sources.ts'
import { ROOT, readSource } from '../checks/sources.ts'
import { parseDockerfile } from '../image/dockerfile.ts'
import { childEnv, run } from '../local/run.ts'
import { composeSecrets } from '../secrets/secrets.ts'

interface Service {
  readonly image: string
  readonly build?: { readonly context: string; readonly dockerfile: string }
  readonly command?: readonly string[]
  readonly environment?: Readonly<Record<string, string>>
  readonly secrets?: readonly string[]
  readonly networks: readonly string[]
  readonly ports?: readonly string[]
  readonly volumes?: readonly string[]
  readonly deploy?: { readonly replicas: number }
  readonly healthcheck?: { readonly test: readonly string[] }
  readonly read_only?: boolean
  readonly cap_drop?: readonly string[]
  readonly stop_grace_period?: string
}

const FOLDER = join(ROOT, 'deploy/compose')
/** By its whole version, as far as its maker has one of three parts. */
const PINNED = /^docker\.io\/[\w/]+:v?\d+\.\d+(\.\d+)?(-[\w.-]+)?$/
const text = readSource('deploy/compose/compose.yaml')
const compose = parse(text, { merge: true }) as {
  services: Record<string, Service>
  secrets: Record<string, { file: string }>
  networks: Record<string, { internal?: boolean }>
  volumes: Record<string, unknown>
}
const services = Object.entries(compose.services)
const service = (name: string) => compose.services[name] as Service

t.test('no secret stands in the file or has a default: each is a file that is made', async t => {
  const made = [...composeSecrets().keys()].map(name => `./secrets/${name}`)
  const named = Object.values(compose.secrets).map(({ file }) => file)
  for (const file of named) t.ok(made.includes(file), file)
  // Gateway and app have their own copies; compose mounts one of them for both.
  const unused = made
    .filter(file => !named.includes(file) && file !== './secrets/stores/s3_keys')
    .map(file => file.replace('/app/', '/gateway/'))
  for (const file of unused) t.ok(named.includes(file), `${file} is used`)
  for (const [name, { environment = {}, secrets = [] }] of services) {
    for (const secret of secrets) t.ok(compose.secrets[secret], `${name}: ${secret}`)
    for (const [variable, value] of Object.entries(environment)) {
      if (!/PASSWORD|SECRET|KEY|_DB_URL/.test(variable)) continue
      t.match(variable, /_FILE$/, `${name}: ${variable}`)
      t.ok(secrets.includes(value.replace('/run/secrets/', '')), `${name}: ${value}`)
    }
  }
  t.match(readSource('.gitignore'), /^deploy\/compose\/secrets\/$/m)
})

t.test('the keys of the S3 store that an operator pipes are those that it knows', async t => {
  const secrets = composeSecrets()
  const [{ credentials }] = JSON.parse(secrets.get('stores/s3.json') ?? '').identities
  const [{ accessKey, secretKey }] = credentials
  t.equal(secrets.get('stores/s3_keys'), `${accessKey}\n${secretKey}\n`)
})

t.test('the variables of gateway, app and commands are those that they read', async t => {
  const known = new Set(
    [...readSource('.env.example').matchAll(/^#?([A-Z][A-Z0-9_]*)=/gm)].map(([, name]) => name),
  )
  for (const [name, { image, environment = {} }] of services) {
    if (!image.startsWith('doorman-')) continue
    for (const variable of Object.keys(environment)) {
      const secret = variable.replace(/_FILE$/, '')
      const isSecretFile = (SECRET_NAMES as readonly string[]).includes(secret)
      t.ok(known.has(variable) || isSecretFile, `${name}: ${variable}`)
    }
  }
  t.notMatch(JSON.stringify(service('app')), /MASTER|SIGNING|REGISTRY|ADMIN_API/)
})

t.test('traces are off, and turned on by a file of their own, of both', async t => {
  t.notMatch(text, /OTEL_/)
  const more = parse(readSource('deploy/compose/traces.yaml'), { merge: true }) as typeof compose
  t.strictSame(Object.keys(more.services), ['gateway', 'app', 'jaeger'])
  const env = (name: string) => more.services[name]?.environment ?? {}
  t.strictSame(env('gateway'), env('app'))
  const endpoint = new URL(String(env('gateway').OTEL_EXPORTER_OTLP_ENDPOINT))
  t.equal(endpoint.hostname, 'jaeger')
  const example = readSource('.env.example')
  for (const name of Object.keys(env('app'))) t.match(example, new RegExp(`^#?${name}=`, 'm'))
  t.match(more.services.jaeger?.image, PINNED)
  for (const name of ['gateway', 'app', 'jaeger']) {
    t.ok(more.services[name]?.networks.includes('traces'), name)
  }
  t.equal(more.networks.traces?.internal, true)
})

t.test('gateway and app take their environment, in production, without a warning', async t => {
  const folder = mkdtempSync(join(tmpdir(), 'doorman-compose-'))
  t.teardown(() => rmSync(folder, { recursive: true, force: true }))
  for (const [name, value] of composeSecrets()) {
    writeFileSync(join(folder, name.split('/').at(-1) ?? ''), value)
  }
  const envOf = (name: string) => ({
    NODE_ENV: 'production',
    ...Object.fromEntries(
      Object.entries(service(name).environment ?? {}).map(([variable, value]) => [
        variable,
        value.replace('/run/secrets', folder),
      ]),
    ),
  })
  t.strictSame(readGatewayConfig(envOf('gateway')).warnings, [])
  t.strictSame(readAppConfig(envOf('app')).warnings, [])
})

t.test('there are two gateways, three apps, and the stores take their connections', async t => {
  t.equal(service('gateway').deploy?.replicas, 2)
  t.equal(service('app').deploy?.replicas, 3)
  const [, most] = /max_connections=(\d+)/.exec(String(service('postgres').command)) ?? []
  const perReplica = Number(service('app').environment?.DB_HOST_POOL_MAX)
  t.ok(3 * perReplica + 2 * 10 < Number(most))
  for (const [name, { image, build }] of services) {
    if (build === undefined) t.match(image, PINNED, `${name} is pinned`)
    else t.ok(existsSync(join(FOLDER, build.context, build.dockerfile)))
  }
})

t.test('ours run read-only, without rights, and are given the time of their drain', async t => {
  for (const [name, { image, ...given }] of services) {
    if (!image.startsWith('doorman-')) continue
    t.match(
      given,
      { read_only: true, cap_drop: ['ALL'], security_opt: ['no-new-privileges:true'] },
      name,
    )
    t.ok(Number.parseInt(String(given.stop_grace_period), 10) > 30, name)
  }
  for (const name of ['gateway', 'app'] as const) {
    const dockerfile = parseDockerfile(readSource(`Dockerfile.${name}`))
    const [, ...check] = service(name).healthcheck?.test ?? []
    t.strictSame(check, [...dockerfile.healthcheck, '/readyz'])
  }
})

t.test('nothing is published but on this machine, and no admin port at all', async t => {
  for (const [name, { ports = [] }] of services) {
    for (const port of ports) {
      t.match(port, /^127\.0\.0\.1:/, name)
      t.notMatch(port, /:(9091|3001|5432)$/, name)
    }
  }
  t.notOk(service('app').ports)
})

t.test('the app shares no network with the Registry’s own, nor a way out', async t => {
  t.strictSame(service('app').networks, ['apps', 'tenants'])
  for (const name of ['apps', 'tenants', 'registry'])
    t.equal(compose.networks[name]?.internal, true)
  t.ok(service('gateway').networks.includes('registry'))
})

t.test('what is mounted exists, and Prometheus and Grafana find what they are told of', async t => {
  for (const [name, { volumes = [] }] of services) {
    for (const volume of volumes) {
      const [source = ''] = volume.split(':')
      const isThere = source.startsWith('.')
        ? existsSync(join(FOLDER, source))
        : source in compose.volumes
      t.ok(isThere, `${name}: ${source}`)
    }
  }
  const prometheus = parse(readSource('deploy/compose/prometheus.yml'))
  for (const { job_name, dns_sd_configs } of prometheus.scrape_configs) {
    const [{ names, port }] = dns_sd_configs
    const [name] = names
    t.equal(job_name, `doorman-${name}`)
    t.equal(port, parseDockerfile(readSource(`Dockerfile.${name}`)).ports[1], 'the admin port')
    t.ok(service('prometheus').networks.some(network => service(name).networks.includes(network)))
  }
  const mounts = (name: string) => (service(name).volumes ?? []).map(volume => volume.split(':')[1])
  for (const file of prometheus.rule_files) t.ok(mounts('prometheus').includes(file))
  const [provider] = parse(readSource('deploy/compose/grafana-dashboards.yml')).providers
  t.ok(mounts('grafana').includes(provider.options.path))
})

t.test('secrets are made once, in files that nobody else gets to, and never replaced', async t => {
  const parent = mkdtempSync(join(tmpdir(), 'doorman-secrets-'))
  t.teardown(() => rmSync(parent, { recursive: true, force: true }))
  const folder = join(parent, 'secrets')
  const make = () =>
    run(process.execPath, ['deploy/secrets/main.ts', folder, '--compose'], 30_000, {
      cwd: ROOT,
      env: childEnv(),
    })
  const { code, output } = await make()
  t.equal(code, 0, output)
  t.equal(statSync(folder).mode & 0o777, 0o700)
  const files = ['gateway', 'app', 'stores'].flatMap(name =>
    readdirSync(join(folder, name)).map(file => `${name}/${file}`),
  )
  t.strictSame(files.sort(), [...composeSecrets().keys()].sort())
  const values = files.map(file => readFileSync(join(folder, file), 'utf8'))
  for (const value of values) t.notOk(output.includes(value), 'no value is printed')
  t.equal((await make()).code, 1)
  t.strictSame(
    values,
    files.map(file => readFileSync(join(folder, file), 'utf8')),
    'untouched',
  )
})
