import t from 'tap'
import { Keyring } from './envelope.ts'
import { checkMasterKey, readKeyChecks } from './key-check.ts'
import { RegistryStore } from './store.ts'
import { insertTenant } from './tenant-write.ts'
import { newTenant, silent, startTestRegistry } from './test-kit.ts'

const registry = await startTestRegistry()
const store = new RegistryStore({ url: registry.url, log: silent })
const [first, second] = [
  await Keyring.derive(['a'.repeat(64)]),
  await Keyring.derive(['b'.repeat(64)]),
]
const both = await Keyring.derive(['b'.repeat(64), 'a'.repeat(64)])
t.teardown(async () => {
  await store.close()
  await registry.stop()
})
const wrong = /^MASTER_ENCRYPTION_KEY is not the key that this Registry was encrypted with/

async function addTenant(keyring: Keyring) {
  const tenant = newTenant()
  const place = { owner: tenant.id, column: 'db_password_encrypted' } as const
  const passwordEncrypted = keyring.encrypt('pw', place)
  await insertTenant(store, { ...tenant, db: { ...tenant.db, passwordEncrypted } })
}

t.test('without a check row, the tenants decide; with one, the row does', async t => {
  await addTenant(first)
  await t.rejects(checkMasterKey(store, second), { name: 'KeyCheckError', message: wrong })
  t.strictSame(await readKeyChecks(store), [], 'a wrong key leaves no row')
  await checkMasterKey(store, first)
  await checkMasterKey(store, first)
  t.strictSame(
    (await readKeyChecks(store)).map(row => row.keyId),
    [first.currentKeyId],
  )
  await registry.admin.query('DELETE FROM tenants')
  await t.rejects(checkMasterKey(store, second), wrong)
})

t.test('a rotation passes with the previous key, and then with the new one alone', async t => {
  await checkMasterKey(store, both)
  await t.resolves(checkMasterKey(store, second))
  t.equal((await readKeyChecks(store)).length, 2)
})

t.test('an empty Registry takes the first key, a damaged secret condemns no key', async t => {
  await registry.admin.query('DELETE FROM doorman_key_check')
  await addTenant(first)
  await registry.admin.query(`UPDATE tenants SET db_password_encrypted = 'damaged'`)
  await addTenant(first)
  await t.resolves(checkMasterKey(store, first))
  await registry.admin.query('DELETE FROM doorman_key_check; DELETE FROM tenants')
  await checkMasterKey(store, second)
  await t.rejects(checkMasterKey(store, first), wrong)
})

t.test('a role that may only read checks without writing', async t => {
  await registry.admin.query(`DELETE FROM doorman_key_check; CREATE ROLE reader LOGIN PASSWORD 'r';
    GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader`)
  const url = registry.server.url('registry', 'reader', 'r')
  const own = new RegistryStore({ url, log: silent })
  await t.resolves(checkMasterKey(own, first))
  t.strictSame(await readKeyChecks(own), [])
  await own.close()
})

t.test('a Registry that was never migrated says so', async t => {
  const own = new RegistryStore({ url: registry.server.url('postgres'), log: silent })
  await t.rejects(checkMasterKey(own, first), /run npm run db:registry-migrate/)
  await own.close()
})
