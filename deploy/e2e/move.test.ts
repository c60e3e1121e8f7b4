import { type ChildProcess, spawn } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import pg from 'pg'
import t from 'tap'
import { createDatabases } from '../local/databases.ts'
import { guard } from '../local/guard.ts'
import { startTestPostgres } from '../local/postgres.ts'
import { childEnv } from '../local/run.ts'
import { call } from './call.ts'
import { startLoad } from './load.ts'
import { type Session, startWorld, type WorldTenant } from './test-kit.ts'

/** Of an operator each; where the signal comes a little later, the next step is as good. */
const KILLED_AT = ['hold', 'copy', 'switch', 'fence'] as const

const world = await startWorld({
  tenants: 3 + KILLED_AT.length,
  postgresSettings: { wal_level: 'logical' },
})
const far = await startTestPostgres()
const second = await world.startGateway()
const origins = [world.gateway.origin, second.origin] as const
await createDatabases(
  far,
  world.tenants.map(({ database, password }) => ({ name: database, password })),
)
t.teardown(async () => {
  await world.close()
  await far.stop()
})
const { acme, globex } = world

/** Writes and reads at both gateways, and what was acknowledged. */
function startTraffic(session: Session, lanes = 4) {
  const acknowledged: string[] = []
  let turn = 0
  const load = startLoad(lanes, async () => {
    const origin = origins[turn++ % 2] as string
    const name = randomUUID()
    const json = { name }
    const options = { method: 'POST', token: session.accessToken, json, timeoutMs: 40_000 }
    const written = await call(origin, '/api/projects', options)
    if (written.status !== 201) return `write: ${written.status} ${written.code} ${written.text}`
    acknowledged.push(name)
    const token = session.accessToken
    const read = await call(origin, `/api/projects/${written.result.id}`, {
      token,
      timeoutMs: 40_000,
    })
    return read.status === 200 && read.result.name === name
      ? null
      : `read: ${read.status} ${read.text}`
  })
  return { load, acknowledged }
}

function moveArgs({ key, database }: WorldTenant, seconds = 30): string[] {
  const to = ['--to-host', '127.0.0.1', '--to-port', String(far.port)]
  return ['move', key, ...to, '--to-db', database, '--to-user', database, '--seconds', `${seconds}`]
}

async function inDatabase(url: string, text: string) {
  const client = new pg.Client(url)
  client.on('error', () => {})
  await client.connect()
  try {
    return (await client.query(text)).rows as Record<string, unknown>[]
  } finally {
    await client.end()
  }
}

const namesIn = async (server: { url(database: string): string }, { database }: WorldTenant) =>
  (await inDatabase(server.url(database), 'SELECT name FROM projects')).map(({ name }) =>
    String(name),
  )

const portOf = async ({ id }: WorldTenant) =>
  Number((await world.registrySql('SELECT db_port FROM tenants WHERE id = $1', [id]))[0]?.db_port)

async function until(what: string, condition: () => Promise<boolean> | boolean, ms = 20_000) {
  const deadline = Date.now() + ms
  while (!(await condition())) {
    if (Date.now() > deadline) throw new Error(`not within ${ms} ms: ${what}`)
    await new Promise(resolve => setTimeout(resolve, 50))
  }
}

t.test('a tenant moves under load: no request fails, and no write is lost or doubled', async t => {
  const [mine, others] = [await world.login(acme), await world.login(globex)]
  const traffic = startTraffic(mine)
  const bystander = startTraffic(others, 2)
  await until('traffic', () => traffic.acknowledged.length > 20)
  const dry = await world.cli([...moveArgs(acme), '--dry-run'], `${acme.password}\n`)
  t.equal(dry.code, 0, dry.output)
  t.equal(await portOf(acme), world.postgres.port, 'a dry run moves nothing')
  const moved = await world.cli(moveArgs(acme), `${acme.password}\n`)
  t.equal(moved.code, 0, moved.output)
  t.comment(moved.output)
  t.match(moved.stdout, /lock: 2 gateways hold it/)
  t.equal(await portOf(acme), far.port)
  const after = traffic.acknowledged.length
  await until('traffic goes on', () => traffic.acknowledged.length > after + 20)
  await Promise.all([traffic.load.stop(), bystander.load.stop()])
  t.strictSame(traffic.load.failures, [])
  t.strictSame(bystander.load.failures, [])
  t.comment(`slowest: moved ${traffic.load.slowestMs} ms, other ${bystander.load.slowestMs} ms`)
  t.strictSame(
    (await namesIn(far, acme)).sort(),
    [...traffic.acknowledged].sort(),
    'each acknowledged write is in the new database, once',
  )
  const old = await namesIn(world.postgres, acme)
  t.ok(old.length > 0 && old.length < traffic.acknowledged.length, 'the old one is as it was then')
  const own = world.postgres.url(acme.database, acme.database, acme.password)
  await t.rejects(inDatabase(own, 'SELECT 1'), { code: '42501' }, 'and is closed to the app')
  t.ok((await world.login(acme)).accessToken, 'its users sign in')
})

t.test('role and database can be made on the way, and go again where the move fails', async t => {
  const made = ['--to-db', 'globex_2', '--to-user', 'globex_2', '--to-admin', 'postgres']
  const args = ['move', 'globex', '--to-host', '127.0.0.1', '--to-port', String(far.port), ...made]
  const admin = new URL(far.url('postgres')).password
  const there = `SELECT rolname FROM pg_roles WHERE rolname = 'globex_2'
    UNION ALL SELECT datname FROM pg_database WHERE datname = 'globex_2'`
  await world.sql(globex.database, 'CREATE DOMAIN hindrance AS integer')
  const failed = await world.cli(args, `${admin}\n`)
  t.equal(failed.code, 1, failed.output)
  t.match(failed.output, /cannot be copied: type public\.hindrance/)
  t.strictSame(await inDatabase(far.url('postgres'), there), [], 'nothing is left')
  await world.sql(globex.database, 'DROP DOMAIN hindrance')
  const moved = await world.cli(args, `${admin}\n`)
  t.equal(moved.code, 0, moved.output)
  t.equal(await portOf(globex), far.port)
  t.ok((await world.login(globex)).accessToken)
  const again = await world.cli(args, `${admin}\n`)
  t.equal(again.code, 1)
  t.match(again.output, /already/, 'what is there is not taken')
})

t.test('a live move: the copy makes nobody wait, and no write is lost or doubled', async t => {
  const tenant = world.tenants.at(-1) as WorldTenant
  const traffic = startTraffic(await world.login(tenant))
  await until('traffic', () => traffic.acknowledged.length > 20)
  const place = ['--to-db', tenant.database, '--to-user', 'live_owner', '--to-admin', 'postgres']
  const args = [...moveArgs(tenant).slice(0, 6), ...place, '--live', '--from-admin', 'postgres']
  const passwords = [far, world.postgres].map(({ url }) => new URL(url('postgres')).password)
  await inDatabase(far.url('postgres'), `DROP DATABASE "${tenant.database}"`)
  const moved = await world.cli(args, `${passwords.join('\n')}\n`)
  t.equal(moved.code, 0, moved.output)
  t.comment(moved.output)
  t.match(moved.stdout, /of \d+ tables are there/)
  t.equal(await portOf(tenant), far.port)
  const after = traffic.acknowledged.length
  await until('traffic goes on', () => traffic.acknowledged.length > after + 20)
  await traffic.load.stop()
  t.strictSame(traffic.load.failures, [])
  t.comment(`slowest: ${traffic.load.slowestMs} ms`)
  t.strictSame((await namesIn(far, tenant)).sort(), [...traffic.acknowledged].sort())
  const left = 'SELECT slot_name FROM pg_replication_slots'
  t.strictSame(await inDatabase(world.postgres.url('postgres'), left), [], 'no slot is left')
  const missing = await world.cli([...moveArgs(tenant), '--live'], '')
  t.equal(missing.code, 2, 'without the administrators it is refused')
})

t.test('an operator who is killed at any step stops nobody, and loses nothing', async t => {
  await Promise.all(
    KILLED_AT.map(async (step, i) => {
      const tenant = world.tenants[2 + i] as WorldTenant
      const traffic = startTraffic(await world.login(tenant), 1)
      await until('traffic', () => traffic.acknowledged.length > 3)
      const operator = startOperator(tenant)
      for await (const line of createInterface({ input: operator.stdout as never })) {
        if (!line.startsWith(`${step}:`)) continue
        operator.kill('SIGKILL')
        break
      }
      if (operator.exitCode === null && operator.signalCode === null) await once(operator, 'exit')
      const seen = traffic.acknowledged.length
      await until(`${step}: it is served again`, () => traffic.acknowledged.length > seen + 5)
      await traffic.load.stop()
      t.strictSame(traffic.load.failures, [], `${step}: no request failed`)
      const hasMoved = (await portOf(tenant)) === far.port
      t.comment(`killed at ${step}: ${hasMoved ? 'has moved' : 'is where it was'}`)
      const names = await namesIn(hasMoved ? far : world.postgres, tenant)
      t.strictSame(names.sort(), [...traffic.acknowledged].sort(), `${step}: all writes, once each`)
      const held =
        'SELECT FROM tenant_holds WHERE tenant_id = $1 AND released_at IS NULL AND expires_at > now()'
      t.strictSame(await world.registrySql(held, [tenant.id]), [], `${step}: not held`)
    }),
  )
})

function startOperator(tenant: WorldTenant): ChildProcess {
  const root = join(import.meta.dirname, '../..')
  const child = spawn(process.execPath, ['registry/cli/main.ts', ...moveArgs(tenant, 10)], {
    cwd: root,
    env: {
      ...childEnv(),
      TENANT_REGISTRY_DB_URL: world.registryUrl,
      MASTER_ENCRYPTION_KEY: world.keys.masterKey,
    },
    stdio: ['pipe', 'pipe', 'inherit'],
  })
  guard(child, { signals: ['TERM', 'KILL'] })
  child.stdin?.on('error', () => {})
  child.stdin?.end(`${tenant.password}\n`)
  return child
}
