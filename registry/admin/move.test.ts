import { text } from 'node:stream/consumers'
import { Client } from 'pg'
import t from 'tap'
import { createDatabases } from '../../deploy/local/databases.ts'
import { startTestPostgres } from '../../deploy/local/postgres.ts'
import { holdsInForce } from '../holds.ts'
import { MOVE_STEPS, type MoveStep } from '../move/move.ts'
import type { TenantId } from '../tenant.ts'
import { findListedTenant } from '../tenant-list.ts'
import { moveEventResult } from './api/results.ts'
import { listAudit } from './audit.ts'
import { readFields } from './fields.ts'
import { moveInput, moveTenantBy } from './move.ts'
import { streamMove } from './move-stream.ts'
import { patchTenant } from './patch.ts'
import { owner, startAdminWorld } from './test-kit.ts'

const [world, far] = await Promise.all([startAdminWorld(), startTestPostgres()])
const { deps } = world
t.teardown(() => Promise.all([world.stop(), far.stop()]))

const stays = new AbortController().signal

async function start(key: string) {
  const tenant = await world.create(key)
  const password = `far-${key}`
  await createDatabases(far, [{ name: `db_${key}`, password }])
  const id = tenant.id as TenantId
  const sql = async (url: string, text: string) => {
    const client = new Client(url)
    await client.connect()
    try {
      return (await client.query(text)).rows
    } finally {
      await client.end()
    }
  }
  await sql(
    world.registry.server.url(`db_${key}`),
    `SET ROLE db_${key}; CREATE TABLE notes (id serial PRIMARY KEY, text text); INSERT INTO notes (text) VALUES ('one'), ('two')`,
  )
  const move = (
    change: object = {},
    gone = stays,
    expected = {},
    told?: (step: MoveStep, text: string) => void,
  ) => {
    const to = { db_host: '127.0.0.1', db_port: far.port, db_password: password, seconds: 20 }
    return moveTenantBy(
      deps,
      owner,
      id,
      readFields(moveInput, { ...to, ...change }),
      expected,
      gone,
      told,
    )
  }
  const audit = async () => {
    const { items } = await listAudit(deps, { tenantId: id, limit: 10 })
    return items.filter(({ action }) => action === 'tenant.move')
  }
  const port = async () => (await findListedTenant(deps.store, id))?.db.port
  return { id, tenant, move, audit, port, sql, url: far.url(`db_${key}`) }
}

t.test('a tenant is moved by the API, and the audit says by whom', async t => {
  const { id, tenant, move, audit, port, sql, url } = await start('mover')
  t.match(await move({ dry_run: true }), { dry_run: true, tables: 1, rows: 0, held_ms: 0 })
  t.equal(await port(), tenant.db_port, 'a dry run moves nothing')
  t.strictSame(await audit(), [])
  const report = await move({ reason: 'a larger server' })
  t.match(report, { dry_run: false, tables: 1, rows: 2, fence_problem: null })
  t.equal(await port(), far.port)
  t.strictSame(await sql(url, 'SELECT text FROM notes ORDER BY id'), [
    { text: 'one' },
    { text: 'two' },
  ])
  const [line, ...more] = await audit()
  t.strictSame(more, [])
  t.match(line, {
    actor: owner.name,
    outcome: 'done',
    reason: 'a larger server',
    request_id: 'request-1',
  })
  t.match(line, { before: { db_port: tenant.db_port }, after: { db_port: far.port } })
  t.notMatch(JSON.stringify([line, report]), /far-mover/, 'no secret is in it')
  t.strictSame(await holdsInForce(deps.store), [])
  const row = await deps.store.findById(id)
  const keyring = await deps.keyring()
  const sealed = row?.db.passwordEncrypted as string
  const place = { owner: id, column: 'db_password_encrypted' } as const
  t.equal(keyring.decrypt(sealed, place), 'far-mover', 'its password is saved')
})

t.test('a move is told as it goes, to its end or its failure', async t => {
  const { tenant, move, port } = await start('told')
  const follow = async (change: object, gone = stays) => {
    const stream = await streamMove(told => move(change, gone, {}, told))
    return eventsOf(await text(stream))
  }
  const failed = await follow({ db_password: 'wrong' })
  t.match(failed, [{ name: 'step', data: { step: 'preflight' } }, { name: 'failed' }])
  t.match(failed.at(-1)?.data, { code: 'MOVE_FAILED', message: /password/ })
  t.equal(await port(), tenant.db_port)
  const early = streamMove(told => move({}, stays, { ifMatch: [999] }, told))
  await t.rejects(early, { code: 'PRECONDITION_FAILED' }, 'no stream begins')
  const told = await follow({})
  const steps = told.slice(0, -1).map(({ data }) => data.step)
  const wanted = MOVE_STEPS.filter(step => step !== 'replicate')
  t.strictSame([...new Set(steps)], wanted)
  t.match(told.at(-1), { name: 'moved', data: { dry_run: false, rows: 2 } })
  for (const { data } of [...failed, ...told]) t.ok(moveEventResult.safeParse(data).success)
  t.equal(await port(), far.port)
})

/** Of a whole stream. */
function eventsOf(stream: string): { name: string | undefined; data: Record<string, unknown> }[] {
  return stream.split('\n\n').flatMap(part => {
    const [, name, data] = /^event: (\w+)\ndata: (.*)$/.exec(part) ?? []
    return data === undefined ? [] : [{ name, data: JSON.parse(data) }]
  })
}

t.test('what cannot be, or is called off, leaves it where it was', async t => {
  const { id, tenant, move, audit, port, sql, url } = await start('stayer')
  await t.rejects(move({ db_password: 'wrong' }), {
    code: 'MOVE_FAILED',
    publicMessage: /password/,
  })
  await t.rejects(move({}, stays, { ifMatch: [999] }), { code: 'PRECONDITION_FAILED' })
  await t.rejects(move({ db_host: '127.0.0.1', db_port: tenant.db_port, db_name: 'db_mover' }), {
    code: 'MOVE_FAILED',
  })
  await t.rejects(move({}, AbortSignal.abort()), { code: 'MOVE_FAILED' }, 'its caller has left')
  await sql(url, 'CREATE TABLE in_the_way (n integer)')
  await t.rejects(move(), { code: 'MOVE_FAILED', publicMessage: /not empty/ })
  await sql(url, 'DROP TABLE in_the_way')
  t.equal(await port(), tenant.db_port)
  t.strictSame(await holdsInForce(deps.store), [])
  const lines = await audit()
  t.ok(lines.length > 0 && lines.every(({ outcome }) => outcome === 'failed'), 'the audit tells it')
  t.notMatch(JSON.stringify(lines), /far-stayer|wrong/)
  for (const seconds of [9, 121, 30.5]) {
    t.throws(() => readFields(moveInput, { db_host: 'h', db_password: 'p', seconds }), /seconds/)
  }
  await patchTenant(deps, owner, id, {
    name: 'Stayer',
    verify: false,
    allow_shared_database: false,
  })
  t.match(await move(), { tables: 1 }, 'and can be moved after all')
})
