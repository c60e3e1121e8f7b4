import { randomUUID } from 'node:crypto'
import { join } from 'node:path'
import t from 'tap'
import { Keyring } from '../registry/envelope.ts'
import { RegistryStore } from '../registry/store.ts'
import type { TenantId, TenantKey } from '../registry/tenant.ts'
import { insertTenant } from '../registry/tenant-write.ts'
import { newTenant, silent, startTestRegistry } from '../registry/test-kit.ts'
import { childEnv, run } from './local/run.ts'

const MASTER = 'a'.repeat(64)

function enter(mode: string, env: Record<string, string> = {}) {
  const command = ['deploy/entrypoint.sh', process.execPath, '-e', 'console.log("started")']
  return run('sh', command, 60_000, {
    cwd: join(import.meta.dirname, '..'),
    env: { ...childEnv(), ...env, ...(mode !== '' && { MIGRATE_ON_START: mode }) },
  })
}

t.test('a container starts without migrating unless it is told to', async t => {
  t.match(await enter(''), { code: 0, output: 'started\n' })
  t.match(await enter('false'), { code: 0, output: 'started\n' })
  t.match(await enter('yes'), { code: 2, output: /must be false, true or background/ })
})

t.test(
  'told to, it migrates; a tenant that fails stops neither the others nor the start',
  async t => {
    const registry = await startTestRegistry()
    const store = new RegistryStore({ url: registry.url, log: silent })
    t.teardown(async () => {
      await store.close()
      await registry.stop()
    })
    const keyring = await Keyring.derive([MASTER])
    await registry.admin.query(`CREATE ROLE one LOGIN PASSWORD 'pw'`)
    await registry.admin.query('CREATE DATABASE one OWNER one')
    for (const [key, password] of [
      ['one', 'pw'],
      ['two', 'wrong'],
    ] as const) {
      const id = randomUUID() as string as TenantId
      const place = { owner: id, column: 'db_password_encrypted' } as const
      const passwordEncrypted = keyring.encrypt(password, place)
      const at = { host: '127.0.0.1', port: registry.server.port, name: key, user: 'one' }
      const db = { ...at, passwordEncrypted, sslMode: null, poolMax: null }
      await insertTenant(store, newTenant({ id, key: key as TenantKey, db }))
    }
    const env = { TENANT_REGISTRY_DB_URL: registry.url, MASTER_ENCRYPTION_KEY: MASTER }
    const { code, stdout, output } = await enter('true', env)
    t.match({ code, stdout }, { code: 0, stdout: 'started\n' })
    t.match(output, /ok {7}one {2}- -> \d{4}.*starting all the same/s)
    t.match((await store.findByKey('one' as TenantKey))?.schemaVersion, /^\d{4}$/)
    const broken = { ...env, TENANT_REGISTRY_DB_URL: 'postgres://a:b@127.0.0.1:1/none' }
    t.notMatch(
      await enter('true', broken),
      { stdout: 'started\n' },
      'without a Registry it does not',
    )
  },
)
