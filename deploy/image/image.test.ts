import { type ChildProcess, spawn } from 'node:child_process'
import { generateKeyPairSync, randomBytes } from 'node:crypto'
import { once } from 'node:events'
import {
  cpSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  renameSync,
  rmSync,
  symlinkSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { createInterface } from 'node:readline'
import t, { type Test } from 'tap'
import { isTestFile, loadsOf, packagesOf, ROOT, readSource } from '../checks/sources.ts'
import { call } from '../e2e/call.ts'
import { guard } from '../local/guard.ts'
import { childEnv, run } from '../local/run.ts'
import { type Dockerfile, filesOfContext, parseDockerfile } from './dockerfile.ts'

const manifest = JSON.parse(readSource('package.json')) as {
  dependencies: Record<string, string>
  devDependencies: Record<string, string>
}
const context = filesOfContext(ROOT, readSource('.dockerignore'))
const images = {
  gateway: parseDockerfile(readSource('Dockerfile.gateway')),
  app: parseDockerfile(readSource('Dockerfile.app')),
}
const START_MS = 20_000

t.test('each image holds what its programs load, and neither tests nor the other side', async t => {
  for (const [name, image] of Object.entries(images)) {
    const files = filesOf(image)
    const programs = [...image.warmed, image.command.at(-1) as string]
    for (const file of [...programs, ...programs.flatMap(program => [...closureOf(program)])]) {
      t.ok(files.has(file), `${name}: ${file}`)
    }
    t.strictSame([...files.keys()].filter(isTestFile), [], `${name}: tests`)
  }
  const folders = (image: Dockerfile) =>
    new Set([...filesOf(image).keys()].map(file => file.split('/').slice(0, -1).join('/')))
  t.notOk(folders(images.gateway).has('app'))
  for (const folder of folders(images.app))
    t.match(folder, /^(|app\b.*|registry(\/lib\b.*)?|deploy\/image)$/)
  t.notOk(filesOf(images.app).has('registry/store.ts'), 'no Registry in the app')
  const sql = context.filter(file => /^migrations\/.*\.sql$/.test(file))
  t.ok(sql.length > 15, 'migrations are found')
  for (const file of sql) t.ok(filesOf(images.gateway).has(file), file)
})

t.test('no program of an image loads a package that is for development', async t => {
  const programs = Object.values(images).flatMap(image => image.warmed)
  const loaded = new Set(programs.flatMap(program => [...closureOf(program)]).flatMap(packagesOf))
  t.ok(loaded.size > 10, 'packages are found')
  for (const name of loaded) t.ok(manifest.dependencies[name], name)
})

t.test('images are built on the Node that is tested, and run by nobody who is root', async t => {
  for (const [name, { base, steps, user }] of Object.entries(images)) {
    t.equal(base, `docker.io/library/node:${manifest.devDependencies.node}-bookworm-slim`, name)
    t.equal(user, '1000:1000')
    t.strictSame(
      steps.filter(step => step.startsWith('FROM ')),
      // biome-ignore lint/suspicious/noTemplateCurlyInString: it is a Dockerfile's variable
      ['FROM ${NODE_IMAGE} AS modules', 'FROM ${NODE_IMAGE}'],
    )
    const [install = '', ...more] = steps.filter(step => step.includes('npm '))
    t.match(install, /^RUN npm ci --omit=dev --ignore-scripts /)
    t.strictSame(more, [], 'npm runs in the first stage alone')
    t.notOk(steps.some(step => /\b(curl|wget|ADD)\b/.test(step)))
  }
})

t.test('the gateway starts as in its image, changes nothing there, and ends in time', t =>
  replay(t, 'gateway'),
)
t.test('the app starts as in its image, changes nothing there, and ends in time', t =>
  replay(t, 'app'),
)

async function replay(t: Test, name: 'gateway' | 'app'): Promise<void> {
  const image: Dockerfile = images[name]
  const root = layOut(t, image)
  const cache = join(root, image.env.NODE_COMPILE_CACHE?.replace('/doorman/', '') as string)
  const env = { ...childEnv(), ...image.env, NODE_COMPILE_CACHE: cache }
  const warm = (main: string) =>
    run(process.execPath, [main], START_MS, { cwd: root, env: { ...env, ADMIN_PORT: '1' } })
  await Promise.all(image.warmed.map(warm))
  const loaded = new Set(image.warmed.flatMap(main => [...closureOf(main)]))
  t.ok(filesBelow(cache) > loaded.size, 'what they load is kept compiled')
  // Out of the folder, which nothing may write to from here on.
  const kept = `${root}-kept`
  renameSync(cache, kept)
  t.teardown(() => rmSync(kept, { recursive: true, force: true }))
  const before = filesBelow(root)
  const settings = {
    ...env,
    ...SETTINGS,
    NODE_COMPILE_CACHE: kept,
    HOST: '127.0.0.1',
    PORT: '0',
    ADMIN_PORT: '0',
  }
  const command = [...image.entrypoint.slice(2), ...image.command]
  const { child, lines, ports } = await start(t, command, root, settings)
  const admin = `http://127.0.0.1:${ports.admin}`
  t.equal((await call(admin, '/livez')).status, 200)
  if (name === 'gateway') {
    t.equal((await call(`http://127.0.0.1:${ports.public}`, '/healthz')).status, 200)
    t.equal((await call(admin, '/readyz')).status, 503, 'without its Registry')
  }
  const check = (port: number, ...path: readonly string[]) =>
    run(process.execPath, [...image.healthcheck.slice(1), ...path], START_MS, {
      cwd: root,
      env: { ...env, NODE_COMPILE_CACHE: kept, ADMIN_PORT: String(port) },
    })
  t.equal((await check(ports.admin)).code, 0)
  t.equal((await check(ports.admin, '/readyz')).code, name === 'gateway' ? 1 : 0)
  t.match(await check(1), { code: 1, output: /\/livez: .*ECONNREFUSED/ })
  const exited = once(child, 'exit')
  const startedAt = Date.now()
  child.kill('SIGTERM')
  t.strictSame(await exited, [0, null], lines.slice(-3).join('\n'))
  t.ok(Date.now() - startedAt < 10_000)
  t.equal(filesBelow(root), before, 'a read-only folder is enough')
}

/** Files of an image, by their path in it. */
function filesOf({ copies }: Dockerfile): Map<string, string> {
  const files = new Map<string, string>()
  for (const { sources, target } of copies) {
    for (const source of sources) {
      for (const file of context) {
        if (file === source) {
          files.set(
            /^\.?\/?$|\/$/.test(target) ? join(target, file.split('/').at(-1) ?? '') : target,
            file,
          )
        } else if (file.startsWith(`${source}/`)) {
          files.set(join(target, file.slice(source.length + 1)), file)
        }
      }
    }
  }
  return files
}

/** Everything of ours that `program` loads, itself included. */
function closureOf(program: string): Set<string> {
  const seen = new Set<string>()
  const visit = (file: string): void => {
    if (seen.has(file)) return
    seen.add(file)
    for (const loaded of loadsOf(file)) visit(loaded)
  }
  visit(program)
  return seen
}

/** The image's folder with the packages of production alone, which are those installed here. */
function layOut(t: Test, image: Dockerfile): string {
  const root = mkdtempSync(join(tmpdir(), 'doorman-image-'))
  t.teardown(() => rmSync(root, { recursive: true, force: true }))
  for (const [target, source] of filesOf(image)) {
    mkdirSync(dirname(join(root, target)), { recursive: true })
    cpSync(join(ROOT, source), join(root, target))
  }
  for (const name of Object.keys(manifest.dependencies)) {
    const link = join(root, 'node_modules', name)
    mkdirSync(dirname(link), { recursive: true })
    symlinkSync(join(ROOT, 'node_modules', name), link)
  }
  return root
}

/** How many there are; links are not followed. */
function filesBelow(folder: string): number {
  try {
    return readdirSync(folder, { recursive: true, withFileTypes: true }).filter(entry =>
      entry.isFile(),
    ).length
  } catch {
    return 0
  }
}

async function start(t: Test, command: readonly string[], cwd: string, env: NodeJS.ProcessEnv) {
  const [program = '', ...args] = command
  const isScript = program.endsWith('.sh')
  const child: ChildProcess = spawn(isScript ? join(cwd, program) : process.execPath, args, {
    cwd,
    // The base image has this Node on its PATH.
    env: { ...env, PATH: `${dirname(process.execPath)}:${process.env.PATH}` },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  guard(child, { signals: ['TERM', 'KILL'] })
  t.teardown(() => child.kill('SIGKILL'))
  const lines: string[] = []
  const ports = await new Promise<{ public: number; admin: number }>((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error('it does not listen')), START_MS)
    const hear = (line: string) => {
      lines.push(line)
      if (!line.includes('"listening"')) return
      clearTimeout(timer)
      const entry = JSON.parse(line)
      resolve({
        public: entry.port ?? entry.address.port,
        admin: entry.admin_port ?? entry.internal.port,
      })
    }
    for (const stream of [child.stdout, child.stderr]) {
      if (stream) createInterface({ input: stream }).on('line', hear)
    }
    child.on('exit', () => reject(new Error(`it ended\n${lines.join('\n')}`)))
  })
  return { child, lines, ports }
}

/** What production requires, of both; the Registry is away. */
const SETTINGS = makeSettings()

function makeSettings(): Record<string, string> {
  const secret = () => randomBytes(32).toString('base64url')
  const jwk = generateKeyPairSync('ed25519').privateKey.export({ format: 'jwk' })
  const { d: _private, ...open } = jwk
  return {
    TENANT_REGISTRY_DB_URL: 'postgres://registry:none@127.0.0.1:1/registry',
    APP_UPSTREAMS: 'http://127.0.0.1:1',
    MASTER_ENCRYPTION_KEY: randomBytes(32).toString('hex'),
    JWT_SECRET_ACCESS_TOKEN: secret(),
    JWT_SECRET_REFRESH_TOKEN: secret(),
    TENANT_CONTEXT_SIGNING_KEY: JSON.stringify(jwk),
    TENANT_CONTEXT_PUBLIC_KEYS: JSON.stringify({ keys: [open] }),
    TENANT_CONTEXT_ENCRYPTION_KEY: secret(),
  }
}
