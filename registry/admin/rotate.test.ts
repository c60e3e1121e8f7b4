import pg from 'pg'
import t from 'tap'
import type { Fault } from '../lib/errors.ts'
import { scramVerifier } from '../lib/scram.ts'
import type { TenantId } from '../tenant.ts'
import { patchInput, readFields } from './fields.ts'
import type { TenantItem } from './item.ts'
import { patchTenant } from './patch.ts'
import { rotateCredentials } from './rotate.ts'
import { beginRotation, settleRotation, settleRotations } from './rotation-record.ts'
import { owner, startAdminWorld, storedPassword } from './test-kit.ts'

const world = await startAdminWorld()
t.teardown(() => world.stop())
const { deps, registry } = world
const { server } = registry

function idOf({ id }: TenantItem): TenantId {
  return id as TenantId
}

async function opensWith(item: TenantItem, password: string): Promise<boolean> {
  const url = server.url(String(item.db_name), String(item.db_user), password)
  const client = new pg.Client({ connectionString: url })
  client.on('error', () => {})
  return client
    .connect()
    .then(() => client.end())
    .then(
      () => true,
      () => false,
    )
}

async function pendingOf(item: TenantItem): Promise<number> {
  const query = 'SELECT FROM tenant_rotations WHERE tenant_id = $1'
  return (await registry.admin.query(query, [item.id])).rowCount ?? 0
}

/** Puts a new password on record as a rotation does, and on the database where `isAltered`. */
async function cutShort(item: TenantItem, isAltered: boolean): Promise<string> {
  const keyring = await deps.keyring()
  const place = { owner: item.id, column: 'db_password_encrypted' } as const
  await beginRotation(deps.store, idOf(item), keyring.encrypt('the-new-one', place), owner)
  if (isAltered) {
    const verifier = await scramVerifier('the-new-one')
    await registry.admin.query(`ALTER ROLE "${item.db_user}" PASSWORD '${verifier}'`)
  }
  const old = "UPDATE tenant_rotations SET started_at = now() - interval '2 min'"
  await registry.admin.query(old)
  return 'the-new-one'
}

t.test('a rotation gives a new password that opens the database; the old one does not', async t => {
  const item = await world.create('rotated')
  const before = await storedPassword(world, item)
  const session = new pg.Client(server.url(String(item.db_name), String(item.db_user), before))
  await session.connect()
  const rotated = await rotateCredentials(deps, owner, idOf(item), 'monthly')
  const after = await storedPassword(world, item)
  t.not(after, before)
  t.ok(rotated.config_version > item.config_version, 'contexts are minted anew')
  t.ok(await opensWith(item, after))
  t.notOk(await opensWith(item, before))
  t.equal((await session.query('SELECT 1 AS n')).rows[0].n, 1, 'an open session goes on')
  await session.end()
  t.equal(await pendingOf(item), 0)
})

t.test('where the stored password is wrong nothing changes, and the audit tells it', async t => {
  const item = await world.create('locked-out')
  const right = await storedPassword(world, item)
  const wrong = readFields(patchInput, { db_password: 'wrong', verify: false })
  await patchTenant(deps, owner, idOf(item), wrong)
  await t.rejects(rotateCredentials(deps, owner, idOf(item), null), {
    code: 'CONNECTION_TEST_FAILED',
  })
  t.equal(await storedPassword(world, item), 'wrong')
  t.ok(await opensWith(item, right))
  const { rows } = await registry.admin.query(
    "SELECT action FROM admin_audit WHERE tenant_id = $1 AND outcome = 'failed'",
    [item.id],
  )
  t.strictSame(rows, [{ action: 'tenant.rotate_credentials' }])
})

t.test('a rotation that was cut short before the database took it: the old one stays', async t => {
  const item = await world.create('cut-early')
  const old = await storedPassword(world, item)
  await cutShort(item, false)
  t.equal(await settleRotation(deps, idOf(item)), 'old')
  t.equal(await storedPassword(world, item), old)
  t.equal(await pendingOf(item), 0)
})

t.test(
  'a rotation that was cut short after the database took it: the new one is saved',
  async t => {
    const item = await world.create('cut-late')
    const fresh = await cutShort(item, true)
    await settleRotations(deps)
    t.equal(await storedPassword(world, item), fresh)
    t.equal(await pendingOf(item), 0)
  },
)

t.test('a rotation that was cut short does not stop the next one', async t => {
  const item = await world.create('cut-and-again')
  await cutShort(item, true)
  await rotateCredentials(deps, owner, idOf(item), null)
  t.ok(await opensWith(item, await storedPassword(world, item)))
})

t.test('while one is under way there is no second; neither password is lost', async t => {
  const item = await world.create('twice')
  const all = await Promise.allSettled(
    [1, 2, 3].map(() => rotateCredentials(deps, owner, idOf(item), null)),
  )
  const refused = all.filter(({ status }) => status === 'rejected') as PromiseRejectedResult[]
  t.ok(refused.length < 3, 'at least one wins')
  for (const { reason } of refused) {
    t.match((reason as Fault).code, /^(CONFLICT|CONNECTION_TEST_FAILED)$/)
  }
  t.ok(await opensWith(item, await storedPassword(world, item)))
  t.equal(await pendingOf(item), 0)
})

t.test('where the Registry refuses the new password the database keeps one that works', async t => {
  const item = await world.create('refused')
  await registry.admin.query(`
    CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
      IF NEW.tenant_key = 'refused' THEN RAISE EXCEPTION 'refused'; END IF;
      RETURN NEW;
    END $$`)
  await registry.admin.query(
    'CREATE CONSTRAINT TRIGGER refuse AFTER UPDATE ON tenants DEFERRABLE INITIALLY DEFERRED ' +
      'FOR EACH ROW EXECUTE FUNCTION refuse()',
  )
  // Deferred: the Registry refuses at its commit, when the database has committed already.
  await t.rejects(rotateCredentials(deps, owner, idOf(item), null))
  t.equal(await pendingOf(item), 1, 'the new password is still on record')
  await registry.admin.query('DROP TRIGGER refuse ON tenants')
  t.equal(await settleRotation(deps, idOf(item)), 'new')
  t.ok(await opensWith(item, await storedPassword(world, item)))
})

t.test('where the server does not take the new password the old one is put back', async t => {
  const item = await world.create('untaken')
  const old = await storedPassword(world, item)
  // At the Registry's commit, when the database has committed: from then on no password is taken.
  await registry.admin.query(`
    CREATE FUNCTION expire() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
      IF NEW.tenant_key = 'untaken' THEN ALTER ROLE db_untaken VALID UNTIL '2000-01-01'; END IF;
      RETURN NEW;
    END $$`)
  await registry.admin.query(
    'CREATE CONSTRAINT TRIGGER expire AFTER UPDATE ON tenants DEFERRABLE INITIALLY DEFERRED ' +
      'FOR EACH ROW EXECUTE FUNCTION expire()',
  )
  await t.rejects(rotateCredentials(deps, owner, idOf(item), null), {
    code: 'CONNECTION_TEST_FAILED',
    publicMessage: /the old one stands/,
  })
  await registry.admin.query('DROP TRIGGER expire ON tenants')
  await registry.admin.query("ALTER ROLE db_untaken VALID UNTIL 'infinity'")
  t.equal(await storedPassword(world, item), old)
  t.ok(await opensWith(item, old))
  t.equal(await pendingOf(item), 0)
})

t.test('a role that two tenants share is not rotated', async t => {
  const item = await world.create('role-one')
  const password = await storedPassword(world, item)
  await world.create('role-two', { db_user: item.db_user, db_password: password })
  await t.rejects(rotateCredentials(deps, owner, idOf(item), null), { code: 'CONFLICT' })
  t.ok(await opensWith(item, password))
})
