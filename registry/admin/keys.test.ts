import t from 'tap'
import { RegistryStore } from '../store.ts'
import { silent, startTestRegistry } from '../test-kit.ts'
import { covers, SCOPES } from './actor.ts'
import { Authenticator } from './authenticate.ts'
import { FailureLimit } from './failure-limit.ts'
import { createAdminKey, listAdminKeys, revokeAdminKey } from './keys.ts'
import { owner } from './test-kit.ts'

const registry = await startTestRegistry()
const store = new RegistryStore({ url: registry.url, log: silent })
t.teardown(async () => {
  await store.close()
  await registry.stop()
})
const deps = { store, log: silent }
const FIRST = 'the-first-key-of-the-environment'

t.test('without any key nothing opens, and the answer says that there is none', async t => {
  const doors = new Authenticator(deps, undefined)
  await t.rejects(doors.authenticate('x', '192.0.2.1'), { code: 'ADMIN_DISABLED' })
  await t.rejects(doors.authenticate(null, '192.0.2.1'), { code: 'ADMIN_DISABLED' })
  const withFirst = new Authenticator(deps, FIRST)
  await t.rejects(withFirst.authenticate(null, '192.0.2.1'), { code: 'ADMIN_KEY_INVALID' })
})

t.test('a key opens what its scope covers until it is revoked; its hash alone is kept', async t => {
  const doors = new Authenticator(deps, FIRST)
  t.match(await doors.authenticate(FIRST, '192.0.2.1'), { name: 'ADMIN_API_KEY', scope: 'own' })
  for (const scope of SCOPES) {
    const key = await createAdminKey(deps, owner, `key-${scope}`, scope)
    t.match(await doors.authenticate(key, '192.0.2.1'), { name: `key-${scope}`, scope })
    await t.rejects(createAdminKey(deps, owner, `key-${scope}`, scope), { code: 'CONFLICT' })
    const { rows } = await registry.admin.query(
      'SELECT k::text AS text FROM admin_keys AS k UNION ALL SELECT a::text FROM admin_audit AS a',
    )
    t.notOk(rows.some(({ text }) => text.includes(key)))
    await revokeAdminKey(deps, owner, `key-${scope}`)
    await t.rejects(doors.authenticate(key, '192.0.2.1'), { code: 'ADMIN_KEY_INVALID' })
    await t.rejects(revokeAdminKey(deps, owner, `key-${scope}`), { code: 'NOT_FOUND' })
  }
  await createAdminKey(deps, owner, 'key-read', 'read')
  const [live] = await listAdminKeys(deps)
  t.match(live, { name: 'key-read', scope: 'read', revoked_at: null }, 'a name may come again')
  await t.rejects(createAdminKey(deps, owner, 'no\nname', 'read'), { code: 'VALIDATION_FAILED' })
  t.strictSame(
    SCOPES.map(have => SCOPES.map(need => covers(have, need))),
    [
      [true, false, false],
      [true, true, false],
      [true, true, true],
    ],
  )
})

t.test('who tries wrong keys is slowed down, and nobody else', async t => {
  const doors = new Authenticator(deps, FIRST)
  const codes = new Set<string>()
  for (let i = 0; i < 40; i++) {
    const refused = await doors.authenticate(`${FIRST}${i}`, '192.0.2.7').catch(error => error)
    codes.add(refused.code)
  }
  t.strictSame([...codes], ['ADMIN_KEY_INVALID', 'ADMIN_LIMITED'])
  await t.rejects(doors.authenticate(FIRST, '192.0.2.7'), { code: 'ADMIN_LIMITED', retryAfterS: 1 })
  t.match(await doors.authenticate(FIRST, '192.0.2.8'), { scope: 'own' })
})

t.test('an address has paid for a wrong key after a second', async t => {
  const limit = new FailureLimit()
  for (let i = 0; i < 20; i++) {
    t.ok(limit.mayTry('a', 1000))
    limit.add('a', 1000)
  }
  t.notOk(limit.mayTry('a', 1000))
  t.notOk(limit.mayTry('a', 1999), 'not yet')
  t.ok(limit.mayTry('a', 2001))
})
