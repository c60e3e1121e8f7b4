import t from 'tap'
import { listAudit } from '../admin/audit.ts'
import { pruneAudit } from '../admin/audit-prune.ts'
import { owner, startAdminWorld } from '../admin/test-kit.ts'
import type { TenantId } from '../tenant.ts'
import { prune, showAudit } from './audit.ts'
import { holdTenant, releaseTenant } from './hold.ts'
import { rotateMasterKey } from './keys.ts'
import { runHere } from './test-kit.ts'
import { revokeToken } from './tokens.ts'
import { addOneUser } from './users.ts'

const world = await startAdminWorld()
const { deps, registry } = world
t.teardown(() => world.stop())

const DAY_MS = 86_400_000

t.test('what leaves no change in a row is in the audit too, done or failed', async t => {
  const item = await world.create('acme')
  const hold = () => runHere(world, (s, io) => holdTenant(s, 'acme', { seconds: 20 }, io))
  t.equal((await hold()).code, 0)
  t.equal((await hold()).code, 1, 'held already')
  t.equal((await runHere(world, (s, io) => releaseTenant(s, 'acme', io))).code, 0)
  const flags = { jti: 'the-token', expires: new Date(Date.now() + 60_000) }
  t.equal((await runHere(world, (s, io) => revokeToken(s, 'acme', flags, io))).code, 0)
  const user = { email: 'a@acme.example', name: 'A', roleId: 1 }
  const add = (s: never, io: never) => addOneUser(s, 'acme', user, io)
  const added = await runHere(world, add as never, 'MARKER-password\n')
  t.equal(added.code, 1, 'the database has no users table')
  t.equal((await runHere(world, (s, io) => rotateMasterKey(s, {}, io))).code, 0)

  const { items } = await listAudit(deps, { tenantId: item.id as TenantId, limit: 5 })
  t.match(items, [
    { action: 'tenant.add_user', outcome: 'failed', after: { email: 'a@acme.example' } },
    { action: 'tenant.revoke_token', outcome: 'done', actor: owner.name },
    { action: 'tenant.release', outcome: 'done', after: { was_held: true } },
    { action: 'tenant.hold', outcome: 'failed', after: { code: 'CONFLICT' } },
    { action: 'tenant.hold', outcome: 'done', tenant_key: 'acme', after: { seconds: 20 } },
  ])
  const all = await listAudit(deps, { limit: 1 })
  t.match(all.items, [{ action: 'master_key.rotate', outcome: 'done' }])
  const shown = await runHere(world, (s, io) => showAudit(s, 'acme', { action: 'tenant.hold' }, io))
  t.match(shown.out, /an owner +tenant.hold +failed +acme/)
  const { rows } = await registry.admin.query('SELECT a::text AS text FROM admin_audit AS a')
  t.notMatch(JSON.stringify(rows), /MARKER/)
})

t.test('the audit goes only by pruning, not of late, and each pruning stays on record', async t => {
  await registry.admin.query(
    `INSERT INTO admin_audit (actor, action, at) SELECT 'old', 'test.old', now() - interval '90 days'
     FROM generate_series(1, 25)`,
  )
  const count = async (action: string) => {
    const text = 'SELECT count(*)::int AS rows FROM admin_audit WHERE action = $1'
    return (await registry.admin.query(text, [action])).rows[0].rows
  }
  const recent = await count('tenant.hold')
  const before = new Date(Date.now() - 60 * DAY_MS)
  const run = (flags: object) => runHere(world, (s, io) => prune(s, flags, io))
  t.match(await run({ keepDays: 7 }), { code: 2, err: /at least 30 days ago/ })
  t.match(await run({}), { code: 2, err: /one of the two/ })
  t.match(await run({ before, dryRun: true }), { code: 0, out: /^25 rows/ })
  t.equal(await count('test.old'), 25, 'it only counted')
  t.equal(await pruneAudit(deps, owner, before, () => {}, 10), 25)
  t.strictSame([await count('test.old'), await count('tenant.hold')], [0, recent])
  const { items } = await listAudit(deps, { action: 'audit.prune', limit: 10 })
  t.match(
    items.map(({ actor, after }) => [actor, (after as { rows: number }).rows]),
    [10, 10, 5].reverse().map(rows => [owner.name, rows]),
    'one row for each batch',
  )
  await registry.admin.query(
    `INSERT INTO admin_audit (actor, action, at) VALUES ('old', 'audit.prune', now() - interval '90 days')`,
  )
  t.match(await run({ keepDays: 60 }), { code: 0, out: /^0 rows/ })
  t.equal(await count('audit.prune'), 4, 'what tells of a pruning is not pruned')
  await t.rejects(registry.admin.query('DELETE FROM admin_audit'), /append-only/)
})
