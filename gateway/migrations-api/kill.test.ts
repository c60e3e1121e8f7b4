import t from 'tap'
import { awaitState, call, startMigrationWorld, untilSo, watch } from './test-kit.ts'

/*
 * What becomes of a run when processes end: its runner, its gateway, by SIGKILL and by SIGTERM.
 */
const kit = await startMigrationWorld()
t.teardown(() => kit.close())
const { own, read } = kit.keys
const [gateway] = await Promise.all([kit.gateway(), kit.addTenants(4)])
const ENDED = ['done', 'stopped', 'cancelled', 'interrupted']

/** A run that waits at the second of four tenants; the first one is done. */
async function heldRun(at = gateway) {
  await kit.reset()
  const release = await kit.hold('t2')
  const body = { concurrency: 1, per_host: 1 }
  const { result, message } = await call(at, 'POST', '/migrations/runs', { key: own, body })
  if (result === null) throw new Error(message)
  const run = await awaitState(at, result.id, read, ['running'])
  await untilSo(async () => {
    const { rows } = await kit.sql.query(
      'SELECT state FROM tenant_migrations WHERE run_id = $1 ORDER BY state',
      [result.id],
    )
    return rows.map(({ state }) => state).join() === 'ok,running'
  })
  await untilSo(async () => {
    const seen = await call(at, 'GET', `/migrations/runs/${result.id}`, { key: read })
    return seen.result.ok === 1
  })
  const id = result.id as string
  return { id, path: `/migrations/runs/${id}`, pid: pidOf(run.result.runner), release }
}

function pidOf(runner: string): number {
  return Number(runner.split(' ').at(-1))
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch {
    return false
  }
}

t.test('a runner that is killed is seen as interrupted, and a retry does the rest', async t => {
  const run = await heldRun()
  const stream = await watch(gateway, run.id, read)
  process.kill(run.pid, 'SIGKILL')
  await stream.ended
  t.match(stream.events.at(-1), { event: 'end', data: { state: 'interrupted', ok: 1 } })
  const { result } = await awaitState(gateway, run.id, read, ENDED)
  t.match(result, { state: 'interrupted', problem: /ended by a signal/, left: 3 })
  const failures = await call(gateway, 'GET', `${run.path}/failures`, { key: read })
  t.match(failures.result.items, [{ tenant_key: 't2', code: 'INTERRUPTED' }])
  await run.release()
  const retry = await call(gateway, 'POST', `${run.path}/retry`, { key: own })
  t.equal(retry.status, 202, retry.message)
  const rest = await awaitState(gateway, retry.result.id, read, ENDED)
  t.match(rest.result, { state: 'done', tenants: 3, ok: 3, retry_of: run.id })
  for (const key of ['t1', 't2', 't3', 't4']) t.not(await kit.tables(key), 0, key)
})

t.test('a run goes on where its gateway is killed, and another one shows it', async t => {
  const doomed = await kit.gateway()
  const run = await heldRun(doomed)
  await doomed.stop('SIGKILL')
  t.ok(isAlive(run.pid))
  t.match(await call(gateway, 'GET', run.path, { key: read }), { result: { state: 'running' } })
  const second = await call(gateway, 'POST', '/migrations/runs', { key: own, body: {} })
  t.match(second, { status: 409, message: new RegExp(run.id) })
  await run.release()
  const { result } = await awaitState(gateway, run.id, read, ENDED)
  t.match(result, { state: 'done', ok: 4 })
  await untilSo(() => !isAlive(run.pid))
})

t.test('gateway and runner killed: no heartbeat is an interruption, and bars no other', async t => {
  const doomed = await kit.gateway()
  const run = await heldRun(doomed)
  await doomed.stop('SIGKILL')
  process.kill(run.pid, 'SIGKILL')
  await untilSo(() => !isAlive(run.pid))
  t.match(await call(gateway, 'GET', run.path, { key: read }), { result: { state: 'running' } })
  // What time does, in no time.
  await kit.sql.query(
    `UPDATE migration_runs SET heartbeat_at = heartbeat_at - interval '16 s' WHERE id = $1`,
    [run.id],
  )
  t.match(await call(gateway, 'GET', run.path, { key: read }), { result: { state: 'interrupted' } })
  const stream = await watch(gateway, run.id, read)
  await stream.ended
  t.match(stream.events.at(-1), { event: 'end', data: { state: 'interrupted' } })
  await run.release()
  const retry = await call(gateway, 'POST', `${run.path}/retry`, { key: own })
  const rest = await awaitState(gateway, retry.result.id, read, ENDED)
  t.match(rest.result, { state: 'done', tenants: 3, ok: 3 })
  const { result } = await call(gateway, 'GET', run.path, { key: read })
  t.match(result, { state: 'interrupted', problem: 'no heartbeat of its runner' })
})

t.test('a runner that was only stunned hears that it was given up, and stops', async t => {
  const run = await heldRun()
  process.kill(run.pid, 'SIGSTOP')
  t.teardown(() => isAlive(run.pid) && process.kill(run.pid, 'SIGKILL'))
  await kit.sql.query(
    `UPDATE migration_runs SET heartbeat_at = heartbeat_at - interval '16 s' WHERE id = $1`,
    [run.id],
  )
  const next = await call(gateway, 'POST', '/migrations/runs', {
    key: own,
    body: { tenants: ['t4'] },
  })
  t.equal(next.status, 202, next.message)
  process.kill(run.pid, 'SIGCONT')
  t.match(await awaitState(gateway, next.result.id, read, ENDED), { result: { state: 'done' } })
  const beats = async () => {
    const { rows } = await kit.sql.query(
      'SELECT state, ended_at FROM migration_runs WHERE id = $1',
      [run.id],
    )
    return rows[0]
  }
  t.match(await beats(), { state: 'interrupted' })
  // Its next heartbeat but one: what the first one told is then known.
  const seen = new Set<number>()
  await untilSo(async () => {
    const { rows } = await kit.sql.query(
      `SELECT query_start AS at FROM pg_stat_activity
       WHERE application_name = 'doorman-migrate' AND query LIKE '%heartbeat_at%'`,
    )
    for (const { at } of rows) seen.add(at.getTime())
    return seen.size >= 3
  })
  await run.release()
  await untilSo(() => !isAlive(run.pid))
  t.equal(await kit.tables('t3'), 0, 'it began nothing more')
  t.match(await beats(), { state: 'interrupted' }, 'and left its row as it was')
})

t.test('a gateway that drains lets its run finish what it has begun, and no more', async t => {
  const leaving = await kit.gateway()
  const run = await heldRun(leaving)
  const stream = await watch(leaving, run.id, read)
  const exited = leaving.stop('SIGTERM')
  await stream.ended
  t.not(stream.events.at(-1)?.event, 'end', 'the client is to come again, elsewhere')
  t.equal(await exited, 0, 'it does not wait for the migration')
  t.ok(isAlive(run.pid), 'which is not cut')
  await run.release()
  const { result } = await awaitState(gateway, run.id, read, ENDED)
  t.match(result, { state: 'interrupted', ok: 2, left: 2, problem: 'its runner was told to stop' })
  t.not(await kit.tables('t2'), 0)
  t.equal(await kit.tables('t3'), 0)
  const on = await watch(gateway, run.id, read, stream.events.at(-1)?.id)
  await on.ended
  t.match(on.events, [{ event: 'end', data: { state: 'interrupted' } }])
  const retry = await call(gateway, 'POST', `${run.path}/retry`, { key: own })
  const rest = await awaitState(gateway, retry.result.id, read, ENDED)
  t.match(rest.result, { state: 'done', tenants: 2, ok: 2 })
})

t.test('the runner gets no secret by its arguments, and none that it has no use for', async t => {
  const run = await heldRun()
  const { readFile } = await import('node:fs/promises')
  const args = await readFile(`/proc/${run.pid}/cmdline`, 'utf8')
  t.match(args, `--run-id\0${run.id}`)
  const environment = await readFile(`/proc/${run.pid}/environ`, 'utf8')
  const { env } = kit.world
  t.match(environment, `MASTER_ENCRYPTION_KEY=${env.MASTER_ENCRYPTION_KEY}`)
  for (const name of ['JWT_SECRET_ACCESS_TOKEN', 'TENANT_CONTEXT_SIGNING_KEY', 'ADMIN_API_KEY']) {
    t.notMatch(environment, name)
  }
  for (const secret of [env.MASTER_ENCRYPTION_KEY, env.TENANT_REGISTRY_DB_URL, own]) {
    t.notOk(args.includes(String(secret)))
  }
  await run.release()
  await awaitState(gateway, run.id, read, ENDED)
})

t.test('event streams have a bound, and a stream that is left is free at once', async t => {
  const run = await heldRun()
  const open = await Promise.all(Array.from({ length: 16 }, () => watch(gateway, run.id, read)))
  t.strictSame([...new Set(open.map(({ status }) => status))], [200])
  t.equal((await watch(gateway, run.id, read)).status, 503)
  t.equal((await call(gateway, 'GET', run.path, { key: read })).status, 200)
  for (const stream of open) stream.leave()
  await untilSo(async () => {
    // It has no body, and so no stream: none of them keeps a place.
    const heads = await Promise.all(
      Array.from({ length: 16 }, () =>
        fetch(`${gateway.internalUrl}/api/admin${run.path}/events`, {
          method: 'HEAD',
          headers: { authorization: `Bearer ${read}` },
        }),
      ),
    )
    return heads.every(({ status }) => status === 200)
  })
  await untilSo(async () => {
    const again = await watch(gateway, run.id, read)
    again.leave()
    return again.status === 200
  })
  await run.release()
  t.match(await awaitState(gateway, run.id, read, ENDED), { result: { state: 'done', ok: 4 } })
})
