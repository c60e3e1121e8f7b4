import { once } from 'node:events'
import {
  chmodSync,
  cpSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { createServer } from 'node:http'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { text } from 'node:stream/consumers'
import t from 'tap'
import { parse } from 'yaml'
import { ROOT, readSource } from '../../checks/sources.ts'
import { call } from '../../e2e/call.ts'
import { type Finished, run } from '../../local/run.ts'
import { commandsOf } from './documented.ts'
import { type Ended, Engine } from './engine.ts'
import { standForCollector, standForPostgres, standForS3 } from './stand-ins.ts'

/*
 * Within namespaces of its own (rehearsal.test.ts): what docs/deploy.md has an operator type for compose, typed into a
 * shell. `docker` is the engine beside this file. Our images run as compose would run them; PostgreSQL and S3 of npm
 * stand in the place of theirs, Prometheus is this machine's own where it has one, and nothing stands for Grafana.
 */
const COMMAND_MS = 150_000
const WAIT_MS = 60_000
const { blocks, inline } = commandsOf('docs/deploy.md', 'Compose')
const [start = '', tenant = ''] = blocks
const [functions = ''] = /^compose\(\).*$/m.exec(tenant) ?? []
const hasPrometheus = (await run('prometheus', ['--version'], 10_000).catch(() => null)) !== null

const folder = mkdtempSync(join(tmpdir(), 'doorman-rehearsal-'))
// Accounts of images pass through.
chmodSync(folder, 0o755)
const SOCKET = join(folder, 'docker.sock')
const checkout = layOut()
const stops: (() => Promise<unknown> | void)[] = []
const traced = new Set<string>()
const engine = new Engine({
  folder: makeFolder('containers'),
  files: [join(checkout, 'deploy/compose/compose.yaml')],
  standIns: {
    postgres: async (service, engine) => {
      stops.push(await standForPostgres(service, engine, join(checkout, 'deploy/compose')))
    },
    s3: async (service, engine) => {
      stops.push(await standForS3(service, engine, makeFolder('s3'), 'acme'))
    },
    jaeger: async (service, engine) => {
      stops.push(await standForCollector('jaeger', service, engine, traced))
    },
    grafana: async () => {},
    ...(hasPrometheus ? {} : { prometheus: async () => {} }),
  },
  images: {
    prometheus: {
      ...{ copies: [], env: {}, user: '65534:65534', entrypoint: ['prometheus'], command: [] },
    },
  },
})
await serveDocker()
t.teardown(async () => {
  // Before the stores that they write to.
  await engine.stop()
  for (const stop of stops.reverse()) await stop()
  rmSync(folder, { recursive: true, force: true })
})

t.test('the first lines make the keys and bring everything up, healthy', async t => {
  const { code, output } = await type(start)
  t.equal(code, 0, output)
  for (const port of [9090, 9091]) {
    t.equal((await call(`http://127.0.0.1:${port}`, '/healthz')).status, 200, `gateway ${port}`)
  }
  t.equal(engine.containersOf('gateway').length, 2)
  t.equal(engine.containersOf('app').length, 3)
  t.equal((await type(start.split('\n')[0] as string)).code, 1, 'keys are not made twice')
})

t.test('what runs is nobody, on a root that it cannot write to, with its own secrets', async t => {
  for (const name of ['gateway', 'app']) {
    const [container] = engine.containersOf(name)
    const ask = async (command: string) =>
      (await container?.exec(['sh', '-c', command], 10_000))?.stdout.trim()
    t.equal(await ask('id -u; id -g'), '1000\n1000')
    t.equal(await ask('grep -cE "^(CapEff|CapBnd):\\s+0+$" /proc/self/status'), '2')
    t.equal(await ask('for f in / /doorman /etc /tmp; do touch $f/x 2>&1; done | wc -l'), '4')
    const names = [...(engine.compose.services[name]?.secrets ?? [])]
    t.equal(await ask('ls /run/secrets | tr "\\n" " "'), names.sort().join(' '))
    for (const known of ['postgres', 's3', 'gateway', 'app']) {
      t.match(await ask(`getent hosts ${known}`), /^10\./, `${name} finds ${known}`)
    }
    t.equal(await ask('getent hosts grafana || echo none'), 'none')
  }
})

t.test(
  'console and admin API are at a gateway’s own address, and at no published port',
  async t => {
    const [address] = engine.networks.addressesOf('gateway', ['edge'])
    const inside = `http://${address}:9091`
    const token = readFileSync(engine.secretFile('ADMIN_API_KEY'), 'utf8')
    t.equal((await call(inside, '/admin/tenants')).status, 200)
    t.equal((await call(inside, '/api/admin/tenants', { token })).status, 200)
    t.equal((await call(inside, '/api/admin/tenants')).status, 401)
    for (const port of [9090, 9091]) {
      const open = `http://127.0.0.1:${port}`
      t.equal(
        (await call(open, '/api/admin/tenants', { token })).status,
        401,
        'a tenant’s path there',
      )
      t.equal((await call(open, '/admin/tenants', { token })).status, 404)
      t.equal((await call(open, '/metrics', { token })).status, 404)
    }
  },
)

t.test('a first tenant is made as documented, and is served by both gateways', async t => {
  const { code, output } = await type(tenant)
  t.equal(code, 0, output)
  t.match(output, /bucket …/)
  t.match(output, /acme [0-9a-f-]{36} is active/)
  const [one, two] = ['http://127.0.0.1:9090', 'http://127.0.0.1:9091'] as const
  const json = {
    ...{ tenant_key: 'acme', email: 'admin@acme.example' },
    password: 'a password for the first user',
  }
  const login = await patiently(one, '/api/auth/login', { method: 'POST', json })
  t.equal(login.status, 200)
  const token = String(login.result?.accessToken)
  const put = await patiently(two, '/api/files/note.txt', { method: 'PUT', token, body: 'kept' })
  t.match(put.status, /^20[0-9]$/, `${put.text} ${lastLines('gateway')}`)
  t.equal((await patiently(one, '/api/files/note.txt', { token })).text, 'kept')
  t.equal((await patiently(two, '/api/auth/profile', { token })).status, 200)
  t.equal((await call(two, '/api/auth/profile', { token: 'none' })).status, 401)
})

t.test(
  'Prometheus finds all of them by its file, and has the rules',
  { skip: whyNot() },
  async t => {
    const ask = async (path: string) => {
      const { text } = await call('http://127.0.0.1:9190', `/api/v1/${path}`)
      return JSON.parse(text).data
    }
    const jobs = async () => {
      const { activeTargets } = await ask('targets')
      const up = activeTargets.filter(({ health }: { health: string }) => health === 'up')
      return up.map(({ labels }: { labels: { job: string } }) => labels.job).sort()
    }
    const [app, gateway] = ['doorman-app', 'doorman-gateway']
    const wanted = [app, app, app, gateway, gateway]
    await until(async () => JSON.stringify(await jobs()) === JSON.stringify(wanted))
    t.strictSame(await jobs(), wanted)
    const { groups } = parse(readSource('deploy/prometheus/rules.yml')) as { groups: unknown[] }
    t.equal((await ask('rules')).groups.length, groups.length)
    const { alerts } = await ask('alerts')
    t.strictSame(
      alerts.filter(({ state }: { state: string }) => state === 'firing'),
      [],
      'none fires',
    )
  },
)

t.test('the lines for a new release go through', async t => {
  const release = inline.find(line => line.startsWith('compose build'))
  t.ok(release, 'it is documented')
  const { code, output } = await type(`${functions}\n${release}`)
  t.equal(code, 0, output)
})

t.test('traces of both come in when they are turned on as documented', async t => {
  t.strictSame([...traced], [], 'none before')
  const turnOn = inline.find(line => line.includes('traces.yaml up'))
  t.ok(turnOn, 'it is documented')
  const { code, output } = await type(`${functions}\n${turnOn}`)
  t.equal(code, 0, output)
  const json = { tenant_key: 'acme', email: 'admin@acme.example', password: 'wrong' }
  const login = () => call('http://127.0.0.1:9090', '/api/auth/login', { method: 'POST', json })
  // Apps have other addresses now, which the gateway finds when it asks for the name again.
  await until(async () => (await login()).status === 401)
  t.equal((await login()).status, 401)
  await until(async () => traced.size === 2)
  t.strictSame([...traced].sort(), ['doorman-app', 'doorman-gateway'])
})

t.test('no secret is in what they wrote', async t => {
  const lines = ['gateway', 'app', 'migrate'].flatMap(name =>
    engine.containersOf(name).flatMap(container => container.lines),
  )
  t.ok(lines.length > 5)
  const written = lines.join('\n')
  for (const name of Object.keys(engine.compose.secrets)) {
    const secret = readFileSync(engine.secretFile(name), 'utf8').trim()
    t.notOk(written.includes(secret), name)
  }
})

t.test('as process 1 of its container each ends by SIGTERM, and in order', async t => {
  const ends = await engine.stop()
  t.strictSame(ends.get('gateway'), [0, 0])
  t.strictSame(ends.get('app'), [0, 0, 0])
})

/** As a client that minds Retry-After: on a machine with much to do the first look at a Registry may take too long. */
async function patiently(...asked: Parameters<typeof call>): ReturnType<typeof call> {
  const deadline = Date.now() + WAIT_MS
  for (;;) {
    const answer = await call(...asked)
    const waitS = Number(answer.headers['retry-after'])
    if (answer.status !== 503 || !(waitS > 0) || Date.now() > deadline) return answer
    await new Promise(resolve => setTimeout(resolve, waitS * 1000))
  }
}

/** Into a shell, as an operator would, at the root of a checkout. */
function type(commands: string): Promise<Finished> {
  return run('bash', ['--norc', '-euo', 'pipefail', '-c', commands], COMMAND_MS, {
    cwd: checkout,
    env: {
      PATH: `${join(folder, 'bin')}:${resolve(process.execPath, '..')}:${process.env.PATH}`,
    },
  })
}

/** Ours, with a folder for compose's secrets that is not the developer's. */
function layOut(): string {
  const root = makeFolder('checkout')
  mkdirSync(join(root, 'deploy/compose'), { recursive: true })
  for (const name of ['secrets', 'local', 'prometheus', 'grafana']) {
    symlinkSync(join(ROOT, 'deploy', name), join(root, 'deploy', name))
  }
  for (const name of ['compose.yaml', 'traces.yaml', 'postgres-roles.sh']) {
    cpSync(join(ROOT, 'deploy/compose', name), join(root, 'deploy/compose', name))
  }
  // As it is but for the pace: nobody waits for a quarter of a minute here.
  const prometheus = readSource('deploy/compose/prometheus.yml').replaceAll(
    /\b1[05]s$|\b10s\b/gm,
    '1s',
  )
  writeFileSync(join(root, 'deploy/compose/prometheus.yml'), prometheus)
  const bin = makeFolder('bin')
  const docker = `'${join(ROOT, 'deploy/compose/rehearsal/docker.ts')}' '${SOCKET}'`
  writeFileSync(join(bin, 'docker'), `#!/bin/sh\nexec '${process.execPath}' ${docker} "$@"\n`)
  chmodSync(join(bin, 'docker'), 0o755)
  return root
}

function lastLines(name: string): string {
  return engine
    .containersOf(name)
    .flatMap(({ lines }) => lines.slice(-3))
    .join('\n')
}

function makeFolder(name: string): string {
  const made = join(folder, name)
  mkdirSync(made)
  return made
}

async function serveDocker(): Promise<void> {
  const server = createServer(async (req, res) => {
    const words = JSON.parse(decodeURIComponent(String(req.headers['x-words'])))
    const ended = await compose(words, await text(req)).catch(
      (error): Ended => ({ code: 1, out: '', err: `${error}\n` }),
    )
    res.end(JSON.stringify(ended))
  })
  server.listen(SOCKET)
  await once(server, 'listening')
  stops.push(() => {
    server.close()
  })
}

/** The words of `docker`, as far as the document has them. */
async function compose(words: readonly string[], input: string): Promise<Ended> {
  const rest = [...words]
  if (rest.shift() !== 'compose') throw new Error(`docker ${words.join(' ')}`)
  const files: string[] = []
  while (rest[0] === '-f') {
    rest.shift()
    files.push(join(checkout, String(rest.shift())))
  }
  const verb = rest.shift()
  const flags: string[] = []
  while (rest[0]?.startsWith('-')) flags.push(String(rest.shift()))
  const known = { build: '', up: '-d --build --wait', run: '--rm -T' }[String(verb)]?.split(' ')
  const strange = flags.find(flag => !known?.includes(flag))
  if (known === undefined || strange !== undefined) throw new Error(`compose ${verb} ${strange}`)
  if (verb === 'run') return engine.run(files, String(rest[0]), rest.slice(1), input)
  if (rest.length > 0) throw new Error(`compose ${verb} ${rest.join(' ')}`)
  if (verb === 'up') await engine.up(files)
  return { code: 0, out: '', err: '' }
}

async function until(isTrue: () => Promise<boolean>): Promise<void> {
  const deadline = Date.now() + WAIT_MS
  while (!(await isTrue().catch(() => false))) {
    if (Date.now() > deadline) return
    await new Promise(resolve => setTimeout(resolve, 100))
  }
}

function whyNot(): string | false {
  return hasPrometheus ? false : 'no prometheus on this machine'
}
