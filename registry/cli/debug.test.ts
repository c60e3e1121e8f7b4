import t from 'tap'
import { listAudit } from '../admin/audit.ts'
import { listDebugged } from '../admin/debug.ts'
import { owner, startAdminWorld } from '../admin/test-kit.ts'
import type { TenantId } from '../tenant.ts'
import { type DebugFlags, debugTenant } from './debug.ts'
import { runHere, spawnCli } from './test-kit.ts'

const world = await startAdminWorld()
t.teardown(() => world.stop())
const acme = await world.create('acme')
const globex = await world.create('globex')
const debug = (name: string | undefined, flags: DebugFlags = {}) =>
  runHere(world, (session, streams) => debugTenant(session, name, flags, streams))
const untilOf = async (id: string): Promise<Date | null> => {
  const text = 'SELECT debug_until FROM tenants WHERE id = $1'
  return (await world.registry.admin.query(text, [id])).rows[0].debug_until
}
const keys = async () => (await listDebugged(world.deps)).map(({ tenant_key }) => tenant_key)

t.test('a tenant is looked at for a quarter of an hour, or for as long as it is said', async t => {
  const minutesLeft = async () => (((await untilOf(acme.id))?.getTime() ?? 0) - Date.now()) / 60_000
  const begun = await debug('acme', { reason: 'ticket 7' })
  t.match(begun, { code: 0, out: /^each request of acme is logged until \d{4}-\S+Z\n$/ })
  t.ok(Math.abs((await minutesLeft()) - 15) < 1)
  t.equal((await debug(acme.id, { minutes: 60, reason: 'ticket 8' })).code, 0, 'by its id, anew')
  t.ok(Math.abs((await minutesLeft()) - 60) < 1)
  t.equal(await untilOf(globex.id), null, 'no other')
  const { items } = await listAudit(world.deps, { tenantId: acme.id as TenantId, limit: 2 })
  t.match(items, [
    { action: 'tenant.debug', actor: owner.name, reason: 'ticket 8', outcome: 'done' },
    { action: 'tenant.debug', reason: 'ticket 7' },
  ])
})

t.test('who is looked at now is listed, with who asked for it and why', async t => {
  t.equal((await debug('globex', { minutes: 5, reason: 'slow logins' })).code, 0)
  const { code, out } = await debug(undefined)
  t.equal(code, 0)
  const [head, first, second, ...more] = out.trimEnd().split('\n')
  t.match(head, /^KEY +UNTIL +BY +REASON$/)
  t.match(first, /^globex +\d{4}-\S+Z +an owner +slow logins$/, 'what ends first')
  t.match(second, /^acme .* ticket 8$/)
  t.strictSame(more, [])
  t.match(JSON.parse((await debug(undefined, { json: true })).out), [
    { id: globex.id, tenant_key: 'globex', debug_until: /Z$/, actor: owner.name },
    { id: acme.id, reason: 'ticket 8' },
  ])
  // Its time is over.
  await world.registry.admin.query(
    "UPDATE tenants SET debug_until = clock_timestamp() - interval '1 second' WHERE id = $1",
    [globex.id],
  )
  t.strictSame(await keys(), ['acme'])
})

t.test('it is ended before its time, again without harm', async t => {
  const ended = { code: 0, out: 'requests of acme are logged like all others\n' }
  t.match(await debug('acme', { off: true }), ended)
  t.equal(await untilOf(acme.id), null)
  const { config_version: version } = (
    await world.registry.admin.query('SELECT config_version FROM tenants WHERE id = $1', [acme.id])
  ).rows[0]
  t.match(await debug('acme', { off: true }), ended)
  const again = await world.registry.admin.query(
    'SELECT config_version FROM tenants WHERE id = $1',
    [acme.id],
  )
  t.equal(again.rows[0].config_version, version, 'nothing has changed')
  t.strictSame(await keys(), [])
})

t.test('nobody is looked at without a reason, for longer than an hour, or by mistake', async t => {
  for (const [name, flags, problem] of [
    ['acme', {}, /reason: is required/],
    ['acme', { reason: '' }, /reason/],
    ['acme', { reason: 'x', minutes: 61 }, /minutes: must be a whole number from 1 to 60/],
    ['acme', { reason: 'x', minutes: 0 }, /minutes/],
    ['acme', { off: true, minutes: 5 }, /--off takes neither/],
    ['acme', { json: true, reason: 'x' }, /--json is for the list/],
    [undefined, { off: true }, /KEY is required/],
    [undefined, { reason: 'x' }, /KEY is required/],
  ] as const) {
    t.match(await debug(name, flags), { code: 2, err: problem }, JSON.stringify([name, flags]))
  }
  t.match(await debug('nobody', { reason: 'x' }), { code: 4, err: /no tenant nobody/ })
  t.strictSame(await keys(), [])
})

t.test('the command line has the verb', async t => {
  const cli = (...args: string[]) => spawnCli(['debug', ...args], world.env)
  t.match(await cli('acme', '--minutes', '2', '--reason', 'ticket 9'), { code: 0, err: '' })
  t.match(await cli(), { code: 0, out: /acme .* cli:\S+ +ticket 9\n$/ })
  t.match(await cli('acme', '--minutes', '1.5', '--reason', 'x'), { code: 2 })
  t.match(await cli('acme', '--off'), { code: 0 })
})
