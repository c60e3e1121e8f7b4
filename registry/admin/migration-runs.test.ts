import { randomUUID } from 'node:crypto'
import t from 'tap'
import { RegistryStore } from '../store.ts'
import { insertTenant } from '../tenant-write.ts'
import { newTenant, silent, startTestRegistry } from '../test-kit.ts'
import { tenantIds } from './migration-runs.ts'

const registry = await startTestRegistry()
const store = new RegistryStore({ url: registry.url, log: silent })
t.teardown(async () => {
  await store.close()
  await registry.stop()
})

t.test(
  'a thousand names are found among ten thousand tenants, in the time of a statement',
  async t => {
    const { id, key } = await insertTenant(store, newTenant())
    await store.query('ALTER TABLE tenants DISABLE TRIGGER USER', [])
    const [made] = await store.query(
      `WITH made AS (
       INSERT INTO tenants (id, tenant_key, mode, status, db_host, db_port, db_name, db_user, db_password_encrypted)
       SELECT gen_random_uuid(), 'k' || i, mode, status, db_host, db_port, 'd' || i, db_user, db_password_encrypted
       FROM tenants, generate_series(1, 10000) AS i WHERE id = $1 RETURNING id
     ) SELECT array_agg(id::text) AS ids FROM made`,
      [id],
    )
    const ids = (made as { ids: string[] }).ids.slice(0, 500)
    const keys = Array.from({ length: 499 }, (_, i) => `k${i + 9000}`)
    const found = await tenantIds({ store }, [
      ...ids,
      ...keys,
      key,
      ids[0]?.toUpperCase() as string,
    ])
    t.equal(new Set(found).size, found.length, 'each once')
    t.equal(found.length, 1000)
    t.strictSame(
      [...ids, id].filter(one => !found.includes(one)),
      [],
    )
    const gone = randomUUID()
    await t.rejects(tenantIds({ store }, [key, gone]), { message: new RegExp(gone) })
  },
)
