import { randomUUID } from 'node:crypto'
import t from 'tap'
import {
  failuresResult,
  planResult,
  runResult,
  runsResult,
  summaryResult,
} from '../../registry/admin/api/migration-schemas.ts'
import { type Answer, awaitState, call, startMigrationWorld, untilSo, watch } from './test-kit.ts'

/*
 * Through real gateways and the real runner: what an operator does with the fleet's migrations at the admin API.
 */
const kit = await startMigrationWorld()
t.teardown(() => kit.close())
const { own, operate, read } = kit.keys
const [gateway, other] = await Promise.all([kit.gateway(), kit.gateway(), kit.addTenants(4)])
const ONE_BY_ONE = { concurrency: 1, per_host: 1 }
const ENDED = ['done', 'stopped', 'cancelled', 'interrupted']

const start = (body: object = ONE_BY_ONE, key = own) =>
  call(gateway, 'POST', '/migrations/runs', { key, body })

async function toEnd(answer: Answer) {
  if (answer.status !== 202) throw new Error(answer.message)
  return awaitState(gateway, answer.result.id, own, ENDED)
}

t.test('a run is begun, shown, and told by the summary, the audit and any gateway', async t => {
  const fresh = await call(gateway, 'GET', '/migrations', { key: read })
  t.match(fresh.result, { tenants: 4, running: null, runs: [], laggards: { count: 4 } })
  const begun = await start({ ...ONE_BY_ONE, canary: 1 })
  t.equal(begun.status, 202)
  t.equal(begun.fields.get('location'), `/api/admin/migrations/runs/${begun.result.id}`)
  t.match(begun.result, { state: /starting|running/, started_by: 'ADMIN_API_KEY' })
  const { result } = await toEnd(begun)
  t.match(result, {
    ...{ state: 'done', tenants: 4, ok: 4, failed: 0, skipped: 0, left: 0, wave: 'rest' },
    ...{ target: '0001', problem: null, eta_s: null },
  })
  t.ok(result.rate_per_s > 0)
  t.not(await kit.tables('t4'), 0)
  for (const at of [gateway, other]) {
    const seen = await call(at, 'GET', '/migrations', { key: read })
    t.ok(summaryResult.safeParse(seen.result).success)
    t.match(seen.result, {
      ...{ target: '0001', versions: [{ version: '0001', tenants: 4 }], running: null },
      ...{ states: [{ state: 'ok', tenants: 4 }], laggards: { count: 0, items: [] } },
      runs: [{ id: result.id }],
    })
  }
  const list = await call(other, 'GET', '/migrations/runs', { key: read })
  t.ok(runsResult.safeParse(list.result).success)
  t.match(list.result.items, [{ id: result.id, state: 'done' }])
  const { result: audit } = await call(gateway, 'GET', '/audit?action=migration.start', {
    key: own,
  })
  t.match(audit.items, [{ actor: 'ADMIN_API_KEY', after: { run: result.id, canary: 1 } }])
})

t.test('a second run is refused with the id of the one under way, whoever began it', async t => {
  await kit.reset()
  const release = await kit.hold('t1')
  const first = await start()
  for (const at of [gateway, other]) {
    const second = await call(at, 'POST', '/migrations/runs', { key: own, body: {} })
    t.match(second, { status: 409, code: 'CONFLICT' })
    t.match(second.message, first.result.id)
    t.equal(second.fields.get('location'), `/api/admin/migrations/runs/${first.result.id}`)
  }
  await release()
  t.match(await toEnd(first), { result: { state: 'done', ok: 4 } })

  await kit.reset()
  const again = await kit.hold('t1')
  const typed = kit.runner(['--concurrency', '1', '--per-host', '1'])
  let byCommand: Answer | undefined
  await untilSo(async () => {
    byCommand = await call(gateway, 'GET', '/migrations', { key: read })
    return byCommand.result.running?.tenants === 4
  })
  const { running } = byCommand?.result ?? {}
  t.match(running, { started_by: /^cli:/, state: 'running', ok: 0 })
  const refused = await start()
  t.match(refused, { status: 409, message: new RegExp(`${running.id}.*cli:`) })
  await again()
  t.equal(await typed.done, 0)
  t.match(await awaitState(gateway, running.id, read, ENDED), { result: { state: 'done', ok: 4 } })
})

t.test('a run of one tenant by the command line is shown, and holds no other up', async t => {
  await kit.reset()
  const release = await kit.hold('t1')
  const typed = kit.runner(['--tenant-key', 't1'])
  await untilSo(async () => {
    const { result } = await call(gateway, 'GET', '/migrations/runs?limit=1', { key: read })
    return result.items[0].options.tenants?.[0] === 't1' && result.items[0].tenants === 1
  })
  const begun = await start({ tenants: ['t2', 't3'] })
  t.match(await toEnd(begun), { result: { state: 'done', tenants: 2, ok: 2 } })
  t.equal(await kit.tables('t4'), 0, 'it was not named')
  await release()
  t.equal(await typed.done, 0)
})

t.test(
  'progress comes as events, goes on behind the last id anywhere, and needs no client',
  async t => {
    await kit.reset()
    await kit.sql.query(`UPDATE tenants SET db_name = 'db_missing' WHERE tenant_key = 't2'`)
    const release = await kit.hold('t3')
    const { result } = await start()
    const first = await watch(gateway, result.id, read)
    t.equal(first.status, 200)
    t.equal(first.contentType, 'text/event-stream')
    await untilSo(() =>
      first.events.some(({ event, data }) => event === 'progress' && data.failed === 1),
    )
    first.leave()
    const seen = first.events.at(-1)?.id as string
    const second = await watch(other, result.id, read, seen)
    await release()
    await second.ended
    t.equal(second.events.at(-1)?.event, 'end')
    t.match(second.events.at(-1)?.data, { state: 'done', ok: 3, failed: 1, left: 0 })
    t.ok(runResult.safeParse(second.events.at(-1)?.data).success)
    t.notOk(
      second.events.some(({ event }) => event === 'failure'),
      'it was told already',
    )
    const all = await watch(gateway, result.id, read, 'none of ours')
    await all.ended
    t.strictSame(
      all.events.map(({ event }) => event),
      ['failure', 'end'],
      'who comes late sees what counts',
    )
    t.match(all.events[0]?.data, { tenant_key: 't2', code: '3D000' })
    const after = await watch(other, result.id, read, all.events.at(-1)?.id)
    t.equal(after.status, 204, 'a client does not come again')
    t.match(await call(gateway, 'GET', `/migrations/runs/${randomUUID()}/events`, { key: read }), {
      ...{ status: 404, code: 'NOT_FOUND' },
    })
  },
)

t.test('failures tell what and why without a secret, and a retry is of them alone', async t => {
  await kit.reset()
  await kit.sql.query(`UPDATE tenants SET db_user = 'nobody_such' WHERE tenant_key = 't4'`)
  const begun = await start({ ...ONE_BY_ONE, retries: 0 })
  const { result } = await toEnd(begun)
  t.match(result, { state: 'done', ok: 2, failed: 2 })
  const path = `/migrations/runs/${result.id}`
  const failures = await call(gateway, 'GET', `${path}/failures`, { key: read })
  const byKey = (items: readonly { tenant_key: string }[]) =>
    [...items].sort((a, b) => (a.tenant_key < b.tenant_key ? -1 : 1))
  t.match(byKey(failures.result.items), [
    { tenant_key: 't2', code: '3D000', error: /does not exist/, attempts: 1, version: null },
    { tenant_key: 't4', code: '28P01', error: /authentication failed/ },
  ])
  t.equal(failures.result.next_cursor, null)
  t.ok(failuresResult.safeParse(failures.result).success)
  t.notMatch(JSON.stringify(failures.result), 'password-of')
  const page = await call(gateway, 'GET', `${path}/failures?limit=1`, { key: read })
  const rest = await call(
    gateway,
    'GET',
    `${path}/failures?limit=1&cursor=${page.result.next_cursor}`,
    { key: read },
  )
  t.equal(rest.result.next_cursor, null)
  t.strictSame([...page.result.items, ...rest.result.items], failures.result.items)

  await kit.sql.query(`UPDATE tenants SET db_name = 'db_t2' WHERE tenant_key = 't2'`)
  const retry = await call(gateway, 'POST', `${path}/retry`, { key: own })
  const retried = await toEnd(retry)
  t.match(retried.result, { state: 'done', retry_of: result.id, tenants: 2, ok: 1, failed: 1 })
  t.not(await kit.tables('t2'), 0)
  await kit.sql.query(`UPDATE tenants SET db_user = 'db_t4' WHERE tenant_key = 't4'`)
  const second = await call(gateway, 'POST', `/migrations/runs/${retry.result.id}/retry`, {
    key: own,
    body: {},
  })
  t.match(await toEnd(second), { result: { tenants: 1, ok: 1 } })
  const nothing = await call(gateway, 'POST', `/migrations/runs/${second.result.id}/retry`, {
    key: own,
  })
  t.match(nothing, { status: 409, message: /left nothing failed/ })
  const { result: audit } = await call(gateway, 'GET', '/audit?action=migration.retry', {
    key: own,
  })
  t.equal(audit.items.length, 2)
})

t.test('a canary that fails stops the run, as a limit of failures does', async t => {
  await kit.reset()
  await kit.sql.query(`UPDATE tenants SET db_name = 'db_missing' WHERE tenant_key = 't1'`)
  const stopped = await toEnd(await start({ ...ONE_BY_ONE, canary: 1, retries: 0 }))
  t.match(stopped.result, { state: 'stopped', failed: 1, ok: 0, left: 3, wave: 'canary' })
  const limited = await toEnd(await start({ ...ONE_BY_ONE, max_failures: 0, retries: 0 }))
  t.match(limited.result, { state: 'stopped', failed: 1, ok: 0, left: 3 })
  const path = `/migrations/runs/${limited.result.id}/retry`
  await kit.sql.query(`UPDATE tenants SET db_name = 'db_t1' WHERE tenant_key = 't1'`)
  const rest = await call(gateway, 'POST', path, { key: own, body: { what: 'unfinished' } })
  t.match(await toEnd(rest), { result: { tenants: 4, ok: 4 } })
})

t.test('a run that is cancelled finishes what it has begun and begins nothing more', async t => {
  await kit.reset()
  const release = await kit.hold('t1')
  const { result } = await start()
  const path = `/migrations/runs/${result.id}`
  await untilSo(async () => {
    const { rows } = await kit.sql.query(
      `SELECT FROM tenant_migrations WHERE run_id = $1 AND state = 'running'`,
      [result.id],
    )
    return rows.length === 1
  })
  t.match(await call(gateway, 'POST', `${path}/cancel`, { key: read }), { status: 403 })
  const cancelled = await call(other, 'POST', `${path}/cancel`, { key: operate })
  t.match(cancelled, { status: 202, result: { state: 'cancelling', cancelled_by: 'operator' } })
  t.equal((await call(gateway, 'POST', `${path}/cancel`, { key: own })).status, 202, 'again')
  // The runner has heard of it: its next heartbeat, and one more.
  const revision = async () =>
    (
      await kit.sql.query('SELECT heartbeat_at AS at FROM migration_runs WHERE id = $1', [
        result.id,
      ])
    ).rows[0].at.getTime()
  const before = await revision()
  await untilSo(async () => (await revision()) > before + 1500)
  await release()
  const ended = await awaitState(gateway, result.id, read, ENDED)
  t.match(ended.result, { state: 'cancelled', ok: 1, left: 3, cancelled_by: 'operator' })
  t.not(await kit.tables('t1'), 0)
  t.equal(await kit.tables('t2'), 0)
  const late = await call(gateway, 'POST', `${path}/cancel`, { key: own })
  t.match(late, { status: 409, message: /is cancelled/ })
  const { result: audit } = await call(gateway, 'GET', '/audit?action=migration.cancel', {
    key: own,
  })
  t.match(audit.items, [{ actor: 'operator', after: { run: result.id } }])
})

t.test('the plan tells what would run where, as SQL too, and changes nothing', async t => {
  await kit.reset()
  const plan = await call(gateway, 'GET', '/migrations/plan', { key: read })
  t.equal(plan.status, 200, plan.message)
  t.ok(planResult.safeParse(plan.result).success)
  t.match(plan.result, {
    ...{ tenants: 4, pending: 4, problems: 0, is_truncated: false },
    files: [{ name: '0001_base.sql', tenants: 4, sql: null }],
  })
  const path = '/migrations/plan?tenants=t1,t2&to=0001&sql=true'
  const both = await Promise.all([1, 2].map(() => call(gateway, 'GET', path, { key: read })))
  const [some, busy] = both[0]?.status === 200 ? both : both.reverse()
  t.match(busy, { status: 503, code: 'OVERLOADED' }, 'one at a time')
  t.match(some?.result, { tenants: 2, files: [{ tenants: 2, sql: /CREATE TABLE/ }] })
  t.equal(await kit.tables('t1'), 0)
})

t.test('what is no run is refused by name, and a narrow key begins none', async t => {
  const before = (await kit.sql.query('SELECT count(*) FROM migration_runs')).rows[0].count
  const bodies: [object, RegExp][] = [
    [{ tenants: [] }, /tenants/],
    [{ tenants: ['no such'] }, /tenants\.0/],
    [{ tenants: ['unknown'] }, /there is no unknown/],
    [{ tenants: ['t1', '--plan'] }, /tenants\.1/],
    [{ to: '9999' }, /to: must be a migration of this release/],
    [{ to: '1' }, /four digits/],
    [{ concurrency: 0 }, /concurrency/],
    [{ concurrency: 65 }, /concurrency/],
    [{ per_host: 1.5 }, /per_host/],
    [{ canary: -1 }, /canary/],
    [{ max_failures: '101%' }, /max_failures/],
    [{ max_failures: -1 }, /max_failures/],
    [{ include_suspended: 'yes' }, /include_suspended/],
    [{ directory: '/tmp' }, /directory: no such field/],
  ]
  for (const [body, message] of bodies) {
    const refused = await start(body)
    t.match(refused, { status: 400, code: 'VALIDATION_FAILED', message }, JSON.stringify(body))
  }
  const paths: [string, RegExp][] = [
    ['/migrations/plan?to=9999', /to/],
    ['/migrations/plan?tenants=unknown', /there is no unknown/],
    ['/migrations/plan?sql=1', /sql/],
    ['/migrations/runs?limit=0', /limit/],
    ['/migrations/runs/x', /id/],
    [`/migrations/runs/${randomUUID()}/failures?cursor=x`, /cursor/],
  ]
  for (const [path, message] of paths) {
    const refused = await call(gateway, 'GET', path, { key: own })
    t.match(refused, { status: 400, code: 'VALIDATION_FAILED', message }, path)
  }
  for (const path of ['', '/failures', '/events']) {
    const at = `/migrations/runs/${randomUUID()}${path}`
    t.match(await call(gateway, 'GET', at, { key: own }), { status: 404 }, at)
  }
  for (const verb of ['retry', 'cancel']) {
    const at = `/migrations/runs/${randomUUID()}/${verb}`
    t.match(await call(gateway, 'POST', at, { key: own }), { status: 404 }, at)
  }
  for (const key of [read, operate]) {
    t.match(await start({}, key), { status: 403, code: 'ADMIN_SCOPE_TOO_NARROW' })
  }
  t.match(await call(gateway, 'POST', '/migrations/runs', { body: {} }), { status: 401 })
  const after = (await kit.sql.query('SELECT count(*) FROM migration_runs')).rows[0].count
  t.equal(after, before)
})
