import { spawn } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { join } from 'node:path'
import pg from 'pg'
import t from 'tap'
import { childEnv } from '../../deploy/local/run.ts'
import { openConnections } from '../connection.ts'
import { Keyring } from '../envelope.ts'
import { RegistryStore } from '../store.ts'
import type { TenantId, TenantKey } from '../tenant.ts'
import { findListedTenant } from '../tenant-list.ts'
import { silent, startTestRegistry } from '../test-kit.ts'
import { beginProvision } from './begin.ts'
import { provision } from './provision.ts'
import { findRun } from './runs.ts'
import { type ProvisionSpec, standardName } from './spec.ts'
import { type Taken, take } from './take.ts'

const MASTER = 'e'.repeat(64)
const registry = await startTestRegistry()
const store = new RegistryStore({ url: registry.url, log: silent })
const keyring = await Keyring.derive([MASTER])
const { port } = registry.server
t.teardown(async () => {
  await store.close()
  await registry.stop()
})

/** @param killAt the process is killed for real when this step begins */
function run(
  args: readonly string[],
  input = '',
  killAt?: string,
  env: Record<string, string> = {},
) {
  return new Promise<{ code: number | null; output: string }>((resolve, reject) => {
    const main = join(import.meta.dirname, '../cli/main.ts')
    const child = spawn(process.execPath, [main, ...args], {
      env: {
        ...childEnv(),
        TENANT_REGISTRY_DB_URL: registry.url,
        MASTER_ENCRYPTION_KEY: MASTER,
        ...env,
      },
    })
    let output = ''
    const keep = (chunk: Buffer) => {
      output += chunk
      if (killAt !== undefined && output.includes(`${killAt} …`)) child.kill('SIGKILL')
    }
    child.stdout.on('data', keep)
    child.stderr.on('data', keep)
    child.stdin.on('error', () => {})
    child.stdin.end(input)
    child.on('error', reject)
    child.on('close', code => resolve({ code, output }))
  })
}

const provisionArgs = (key: string) => [
  ...['provision', key, '--on', 'main', '--name', `${key} Inc`],
  ...['--admin-email', `Admin@${key}.example`, '--admin-name', 'Admin'],
]
const PASSWORD = 'first-user-SECRET\n'

/** Everything that a run makes. */
async function madeOf(key: string) {
  const tenant = await store.findByKey(key as TenantKey)
  const name = `tenant_${key}`
  const one = async (text: string, values: unknown[] = [name]) =>
    (await registry.admin.query(text, values)).rows[0]
  const made = {
    status: tenant?.status ?? null,
    role: await one(`SELECT rolcanlogin, rolsuper, rolcreatedb FROM pg_roles WHERE rolname = $1`),
    database: await one(
      `SELECT pg_get_userbyid(datdba) AS owner FROM pg_database WHERE datname = $1`,
    ),
    run: await one('SELECT step FROM provisioning_runs WHERE tenant_key = $1', [key]),
    users: [] as unknown[],
  }
  if (tenant === null || made.database === undefined) return made
  const { db } = openConnections(keyring, tenant)
  const client = new pg.Client({ ...db, database: db.name, ssl: false })
  client.on('error', () => {})
  await client.connect()
  try {
    made.users = (await client.query('SELECT email, name FROM users')).rows
  } finally {
    await client.end()
  }
  return made
}

/** As if the process that was killed had been so for a while; one test waits for real. */
async function forgetLease(key: string): Promise<void> {
  await registry.admin.query(
    'UPDATE provisioning_runs SET leased_until = now() WHERE tenant_key = $1',
    [key],
  )
}

const WHOLE = (key: string) => ({
  status: 'active',
  role: { rolcanlogin: true, rolsuper: false, rolcreatedb: false },
  database: { owner: `tenant_${key}` },
  run: undefined,
  users: [{ email: `admin@${key}.example`, name: 'Admin' }],
})
const NOTHING = { status: null, role: undefined, database: undefined, run: undefined, users: [] }

t.test('a host is saved only where its role may make roles and databases', async t => {
  await registry.admin.query(`CREATE ROLE maker LOGIN CREATEROLE CREATEDB PASSWORD 'maker-SECRET'`)
  await registry.admin.query(`CREATE ROLE reader LOGIN PASSWORD 'reader-SECRET'`)
  const add = (role: string, password: string) => {
    const where = ['--host', '127.0.0.1', '--port', String(port), '--admin-user', role]
    return run(['host-add', 'main', ...where], `${password}\n`)
  }
  t.match(await add('reader', 'reader-SECRET'), { code: 1, output: /CREATEROLE/ })
  t.match(await add('maker', 'wrong'), { code: 1, output: /cannot be reached/ })
  const { rows } = await registry.admin.query('SELECT FROM database_hosts')
  t.equal(rows.length, 0)
  const added = await add('maker', 'maker-SECRET')
  t.equal(added.code, 0, added.output)
  t.notMatch(added.output, 'SECRET')
  const { rows: saved } = await registry.admin.query('SELECT * FROM database_hosts')
  t.notMatch(JSON.stringify(saved), 'SECRET')
})

t.test('the password of a host goes along when the master key is rotated', async t => {
  const next = 'f'.repeat(64)
  const keys = { MASTER_ENCRYPTION_KEY: next, MASTER_ENCRYPTION_KEY_PREVIOUS: MASTER }
  const rotate = () => run(['rotate-master-key'], '', undefined, keys)
  const check = () => run(['rotate-master-key', '--check'], '', undefined, keys)
  t.equal((await check()).code, 1, 'it counts as a secret of the old key')
  t.match(await rotate(), { code: 0, output: /1 database hosts/ })
  t.equal((await check()).code, 0)
  const back = { MASTER_ENCRYPTION_KEY: MASTER, MASTER_ENCRYPTION_KEY_PREVIOUS: next }
  t.equal((await run(['rotate-master-key'], '', undefined, back)).code, 0)
})

t.test('a run makes role, database, schema and first user, and activates last', async t => {
  const made = await run(provisionArgs('acme'), PASSWORD)
  t.equal(made.code, 0, made.output)
  t.strictSame(made.output.match(/\w+(?= …)/g), [
    ...['reserve', 'role', 'database', 'migrate', 'admin', 'activate'],
  ])
  t.notMatch(made.output, 'SECRET')
  t.strictSame(await madeOf('acme'), WHOLE('acme'))
  const { rows } = await registry.admin.query(
    `SELECT has_database_privilege('reader', 'tenant_acme', 'CONNECT') AS may`,
  )
  t.strictSame(rows, [{ may: false }], 'nobody else may connect')
  t.match(await run(provisionArgs('acme'), PASSWORD), { code: 3, output: /exists already/ })
  t.strictSame(await madeOf('acme'), WHOLE('acme'))
  t.match(await run(['provision', 'acme', '--undo']), { code: 4 }, 'a finished one is not undone')
})

t.test('killed at each step and run again it ends in the same state', async t => {
  for (const step of ['reserve', 'role', 'database', 'migrate', 'admin', 'activate']) {
    const key = `k${step}`
    const killed = await run(provisionArgs(key), PASSWORD, step)
    t.equal(killed.code, null, `killed at ${step}`)
    const between = await madeOf(key).catch(() => null)
    if (step !== 'activate') t.not(between?.status, 'active', 'nothing half made is served')
    await forgetLease(key)
    const again = await run(provisionArgs(key), PASSWORD)
    // The last step may have been quicker than the signal.
    t.ok(again.code === 0 || (step === 'activate' && again.code === 3), again.output)
    t.strictSame(await madeOf(key), WHOLE(key))
  }
})

t.test('what is not the tenant’s own is neither taken over nor taken away', async t => {
  await registry.admin.query(`CREATE ROLE tenant_globex LOGIN PASSWORD 'theirs'`)
  const refused = await run(provisionArgs('globex'), PASSWORD)
  t.match(refused, { code: 1, output: /role tenant_globex already/ })
  const other = [...provisionArgs('globex'), '--db-user', 'globex_own']
  t.match(await run(other, PASSWORD), { code: 1, output: /other options/ })
  t.match(await run(['provision', 'globex', '--undo']), { code: 0 })
  const left = await madeOf('globex')
  t.match(left, { status: null, role: { rolcanlogin: true }, database: undefined, run: undefined })
})

t.test('an unfinished run is undone without a trace', async t => {
  await run(provisionArgs('half'), PASSWORD, 'migrate')
  t.match(await madeOf('half').catch(() => ({ status: 'provisioning' })), {
    status: 'provisioning',
  })
  const undone = await run(['provision', 'half', '--undo'])
  t.equal(undone.code, 0, undone.output)
  t.strictSame(await madeOf('half'), NOTHING)
})

t.test('a process that hung before its last step does not do it beside another', async t => {
  const key = 'stunned' as TenantKey
  const names = { database: standardName(key), role: standardName(key), name: null, poolMax: null }
  const spec = { key, mode: 'shared', host: 'main', ...names, bucket: null, admin: null } as const
  const actor = { name: 'test', scope: 'own', requestId: null } as const
  const access = { keyring, ca: undefined, addressPolicy: null }
  const id = randomUUID() as string as TenantId
  const secrets = { bucket: null, password: null }
  await beginProvision({ ...access, store }, actor, spec satisfies ProvisionSpec, secrets, id)
  let step = ''
  let other: Taken | null = null
  // The last that is read before the tenant is activated: it takes longer than the lease.
  const findById = async (tenant: TenantId) => {
    const found = await store.findById(tenant)
    if (step === 'activate') {
      await forgetLease(key)
      other = await take(store, key)
    }
    return found
  }
  const stunned = new Proxy(store, {
    get(target, name) {
      if (name === 'findById') return findById
      const value = Reflect.get(target, name)
      return typeof value === 'function' ? value.bind(target) : value
    },
  })
  const onStep = (begun: string) => {
    step = begun
  }
  const deps = { ...access, store: stunned, migrate: async () => {}, onStep }
  const first = (await take(store, key)) as Taken
  const going = new AbortController().signal
  await t.rejects(provision(deps, actor, first, going), { code: 'CONFLICT' })
  t.equal((await findListedTenant(store, key))?.status, 'provisioning')
  t.equal((await findRun(store, key))?.isLeased, true, 'the other one still has the run')
  await (other as Taken | null)?.lease.letGo(null, null)
})
