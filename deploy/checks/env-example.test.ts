import { execFileSync } from 'node:child_process'
import t from 'tap'
import { readAppConfig } from '../../app/config.ts'
import { childEnv } from '../../deploy/local/run.ts'
import { readGatewayConfig } from '../../gateway/config.ts'
import { EnvError } from '../../registry/lib/env.ts'
import { SECRET_NAMES } from '../../registry/lib/secret-sources.ts'
import { readOptions } from '../local/options.ts'
import { isTestFile, ROOT, readSource, sourceFiles } from './sources.ts'

type Need = 'required' | 'optional' | 'default'

interface Reader {
  readonly need: Need
  /** The default as text; null unless `need` is `default`. */
  readonly standard: string | null
}

interface Entry {
  readonly name: string
  readonly example: string
  readonly readers: ReadonlyMap<string, Reader>
  /** Command that makes a value. */
  readonly make: string | null
}

const entries = readExample()
const byName = new Map(entries.map(entry => [entry.name, entry]))

/** The file in which each process declares what it reads. */
const DECLARED_IN = {
  gateway: 'gateway/config.ts',
  app: 'app/config.ts',
  tenant: 'registry/cli/session.ts',
  'registry-migrate': 'migrations/registry-migrate.ts',
  'tenant-migrate': 'migrations/tenant-migrate.ts',
} as const

/** Defaults that are not in the schema but in what reads it. */
const COMPUTED_DEFAULTS: readonly string[] = ['app/config.ts: HOST']

t.test('the variables of each process are exactly those that its code reads', async t => {
  for (const [process, file] of Object.entries(DECLARED_IN)) {
    const declared = declaredIn(file)
    t.ok(declared.size > 3, `${file} is understood`)
    t.strictSame(namesReadBy(process), [...declared.keys()].sort(), process)
    for (const [name, need] of declared) {
      t.equal(byName.get(name)?.readers.get(process)?.need, need, `${process}: ${name}`)
    }
  }
})

t.test('the variables of npm start are exactly those that its code reads', async t => {
  const read = sourceFiles()
    .filter(file => file.startsWith('deploy/local/') && !isTestFile(file))
    .flatMap(file => [
      ...readSource(file).matchAll(/\benv\.([A-Z][A-Z0-9_]+)|portOf\(env, '([A-Z_]+)'/g),
    ])
    .map(([, direct, port]) => direct ?? (port as string))
    .filter(name => name !== 'PATH')
  t.strictSame(namesReadBy('start'), [...new Set(read)].sort())
})

t.test('no process reads a variable that is not here', async t => {
  const product = sourceFiles().filter(file => !isTestFile(file))
  for (const file of product) {
    for (const [, name] of readSource(file).matchAll(/\bprocess\.env\.([A-Za-z_]\w*)/g)) {
      t.ok(name === 'PATH' || byName.has(name as string), `${file}: ${name}`)
    }
  }
})

t.test('the commands that make keys make keys that gateway and app accept', async t => {
  const made = makeKeys()
  t.equal(readGatewayConfig({ ...made, NODE_ENV: 'production' }).warnings.length, 0)
  const { MASTER_ENCRYPTION_KEY: _gatewayAlone, ...forApp } = made
  t.strictSame(readAppConfig({ ...forApp, NODE_ENV: 'production' }).warnings, [])
})

t.test('what is required is required, and what has a default has this default', async t => {
  const good = makeKeys()
  const readers = {
    gateway: (env: NodeJS.ProcessEnv) => JSON.stringify(readGatewayConfig(env)),
    app: (env: NodeJS.ProcessEnv) => JSON.stringify(readAppConfig(env)),
  }
  for (const [process, read] of Object.entries(readers)) {
    const untouched = read(good)
    for (const name of namesReadBy(process)) {
      const { need, standard } = readerOf(name, process)
      if (need === 'required') {
        t.match(
          problemsOf(() => read({ ...good, [name]: '' })),
          [`${name} is required`],
          name,
        )
      }
      if (standard === null) continue
      t.equal(read({ ...good, [name]: standard }), untouched, `${process}: ${name}=${standard}`)
    }
  }
})

t.test('the defaults of npm start are these', async t => {
  const standardOf = (name: string) => byName.get(name)?.readers.get('start')?.standard
  t.equal(standardOf('DOORMAN_DATA_DIR'), readOptions([], {}).dataDir)
  const ports = [
    ...readSource('deploy/local/external.ts').matchAll(/portOf\(env, '(\w+)', (\d+)\)/g),
  ]
  t.equal(ports.length, 4)
  for (const [, name, port] of ports) t.equal(standardOf(name as string), port, name as string)
})

t.test('every secret may come from a file', async t => {
  const isSecret =
    /^JWT_SECRET|OTLP_HEADERS$|(ENCRYPTION|SIGNING|ACCESS|SECRET|API)_KEY|PUBLIC_KEYS|_DB_URL$/
  const secrets = entries.map(({ name }) => name).filter(name => isSecret.test(name))
  t.ok(secrets.length > 10, 'they are found')
  for (const name of secrets) t.ok((SECRET_NAMES as readonly string[]).includes(name), name)
})

t.test('an example shows the default of the first process, and holds no secret', async t => {
  for (const { name, example, readers } of entries) {
    const [first] = readers.values()
    if (first?.standard != null && name !== 'NODE_ENV') t.equal(example, first.standard, name)
    if (/SECRET|KEY|PASSWORD|URL$|OTLP_HEADERS$/.test(name)) t.equal(example, '', name)
  }
})

function readerOf(name: string, process: string): Reader {
  const reader = byName.get(name)?.readers.get(process)
  if (reader === undefined) throw new Error(`${process} does not read ${name}`)
  return reader
}

function namesReadBy(process: string): string[] {
  return entries
    .filter(({ readers }) => readers.has(process))
    .map(({ name }) => name)
    .sort()
}

/** Each entry is comment lines, the last of them "Read by …", and then `NAME=` or `#NAME=`. */
function readExample(): Entry[] {
  const pattern = /((?:^# .*\n)*)^# Read by (.+)\n#?([A-Z][A-Z0-9_]*)=(.*)$/gm
  const text = readSource('.env.example')
  const found = [...text.matchAll(pattern)].map(([, comment = '', readBy = '', name, example]) => ({
    name: name as string,
    example: example as string,
    readers: readReaders(readBy),
    make: /^# Make one: (.+)$/m.exec(comment)?.[1] ?? null,
  }))
  const assigned = [...text.matchAll(/^#?[A-Z][A-Z0-9_]*=/gm)].length
  if (found.length !== assigned) throw new Error('an entry without "# Read by" above it')
  if (new Set(found.map(({ name }) => name)).size !== found.length) throw new Error('a name twice')
  return found
}

function readReaders(text: string): Map<string, Reader> {
  const pattern = /([a-z-]+) \((required|optional|default ([^;)]+))(?:;[^)]*)?\)/g
  const readers = new Map<string, Reader>()
  for (const [, process, need, standard = null] of text.matchAll(pattern)) {
    readers.set(process as string, {
      need: (standard === null ? need : 'default') as Need,
      standard,
    })
  }
  return readers
}

/** Names and needs in a file's `NAME: schema,` lines; `...commonEnv` included. */
function declaredIn(file: string): Map<string, Need> {
  const source = readSource(file)
  const isCommon = source.includes('...commonEnv')
  const shared = [
    isCommon ? readSource('registry/lib/env.ts') : '',
    source.includes('...otelEnv') ? readSource('registry/lib/trace/otel-env.ts') : '',
  ]
  const text = [source, ...shared].join('\n')
  const declared = new Map<string, Need>()
  // A schema may run over several lines; the next name, or the end of the object, ends it.
  const pattern =
    /^ +([A-Z][A-Z0-9_]{2,}): ((?:.|\n)*?)(?=^ +[A-Z][A-Z0-9_]{2,}: |^ *\}|^ +\/\*\*)/gm
  for (const [, name, schema = ''] of text.matchAll(pattern)) {
    if (!/\w\(|jwks|contentKeys|secret/.test(schema)) continue
    declared.set(name as string, needOf(`${file}: ${name}`, schema))
  }
  return declared
}

function needOf(place: string, schema: string): Need {
  if (/\.optional\(\)/.test(schema))
    return COMPUTED_DEFAULTS.includes(place) ? 'default' : 'optional'
  if (/\blist\(/.test(schema)) return 'optional'
  return /\b(int|port|flag|duration)\(|\.default\(/.test(schema) ? 'default' : 'required'
}

/** All that gateway and app require, made by the commands of the file. */
function makeKeys(): NodeJS.ProcessEnv {
  const env: NodeJS.ProcessEnv = {
    TENANT_REGISTRY_DB_URL: 'postgres://registry@127.0.0.1/registry',
    APP_UPSTREAMS: byName.get('APP_UPSTREAMS')?.example,
  }
  for (const { name, make } of entries) {
    if (make === null) continue
    const options = {
      cwd: ROOT,
      env: { ...childEnv(), ...env },
      encoding: 'utf8',
    } as const
    env[name] = execFileSync('/bin/sh', ['-c', make], options).trim()
  }
  return env
}

function problemsOf(read: () => unknown): readonly string[] {
  try {
    read()
    return []
  } catch (error) {
    if (error instanceof EnvError) return error.problems
    throw error
  }
}
