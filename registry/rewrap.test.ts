import { createCipheriv, pbkdf2Sync, randomBytes } from 'node:crypto'
import { Client } from 'pg'
import t from 'tap'
import { Keyring, keyIdOf, SECRET_COLUMNS } from './envelope.ts'
import { readKeyChecks, writeKeyCheck } from './key-check.ts'
import { type RewrapOptions, rewrapSecrets } from './rewrap.ts'
import { RegistryStore } from './store.ts'
import { countSecrets, retireKey } from './stored-secrets.ts'
import type { TenantId } from './tenant.ts'
import { changedSince } from './tenant-changes.ts'
import { insertTenant, writeDb } from './tenant-write.ts'
import { newTenant, silent, startTestRegistry, until } from './test-kit.ts'

const [OLD, NEW] = ['a'.repeat(64), 'b'.repeat(64)]
const registry = await startTestRegistry()
const store = new RegistryStore({ url: registry.url, log: silent })
const [before, after, both] = [
  await Keyring.derive([OLD]),
  await Keyring.derive([NEW]),
  await Keyring.derive([NEW, OLD]),
]
t.teardown(async () => {
  await store.close()
  await registry.stop()
})
t.beforeEach(async () => {
  await registry.admin.query('DELETE FROM tenants; DELETE FROM doorman_key_check')
})

const BUCKET = { provider: null, endpoint: null, region: null, prefix: null }

async function addTenant(keyring = before) {
  const tenant = newTenant()
  const seal = (column: (typeof SECRET_COLUMNS)[number]) =>
    keyring.encrypt(`${column} of ${tenant.key}`, { owner: tenant.id, column })
  return insertTenant(store, {
    ...tenant,
    db: { ...tenant.db, passwordEncrypted: seal('db_password_encrypted') },
    bucket: {
      ...{ ...BUCKET, name: tenant.key },
      accessKeyEncrypted: seal('bucket_access_key_encrypted'),
      secretKeyEncrypted: seal('bucket_secret_key_encrypted'),
    },
  })
}

async function allRows() {
  const { rows } = await registry.admin.query('SELECT * FROM tenants ORDER BY id')
  return rows as Record<string, string>[]
}

/** As the older tool wrote it. */
function legacyCiphertext(text: string): string {
  const key = pbkdf2Sync(OLD, 'tenant-registry-salt', 100_000, 32, 'sha256')
  const iv = randomBytes(16)
  const cipher = createCipheriv('aes-256-gcm', key, iv)
  const sealed = Buffer.concat([cipher.update(text), cipher.final()])
  return Buffer.concat([iv, cipher.getAuthTag(), sealed]).toString('base64')
}

t.test('every secret comes under the new key, and nothing else of any row moves', async t => {
  for (let i = 0; i < 7; i++) await addTenant()
  const legacy = await addTenant()
  await registry.admin.query(`UPDATE tenants SET db_password_encrypted = $1 WHERE id = $2`, [
    legacyCiphertext(`db_password_encrypted of ${legacy.key}`),
    legacy.id,
  ])
  const none = newTenant()
  await insertTenant(store, none)
  await registry.admin.query(`UPDATE tenants SET db_password_encrypted = NULL WHERE id = $1`, [
    none.id,
  ])
  const was = await allRows()
  const { cursor } = await changedSince(store, null)
  const notices: unknown[] = []
  const listener = new Client(registry.url)
  listener.on('notification', notice => notices.push(notice))
  await listener.connect()
  await listener.query('LISTEN tenant_changed')

  const steps: number[] = []
  const onProgress = (done: number) => steps.push(done)
  t.strictSame(await rewrapSecrets({ store, keyring: both, batchRows: 3, onProgress }), {
    ...{ tenants: 8, unopened: [], isComplete: true },
  })
  t.strictSame(steps, [3, 6, 8])
  const is = await allRows()
  for (const [i, row] of is.entries()) {
    if (row.id === none.id) continue
    for (const column of SECRET_COLUMNS) {
      const text = after.decrypt(String(row[column]), { owner: String(row.id), column })
      t.equal(text, `${column} of ${row.tenant_key}`)
    }
    const rest = (full = {}) => ({
      ...full,
      ...Object.fromEntries(SECRET_COLUMNS.map(c => [c, ''])),
    })
    t.strictSame(rest(row), rest(was[i]), 'version, transaction and time of the last change too')
  }
  await listener.query('SELECT 1')
  t.strictSame(notices, [], 'no gateway reads anything anew')
  t.strictSame((await changedSince(store, cursor)).changes, [])
  t.equal((await rewrapSecrets({ store, keyring: both })).tenants, 0, 'nothing is left')
  await registry.admin.query('UPDATE tenants SET db_password_encrypted = $1 WHERE id = $2', [
    'v1.other',
    legacy.id,
  ])
  await until('a change of a secret is told as ever', () => notices.length === 1)
  await listener.end()
})

t.test('a run that is cut short leaves whole tenants, and the next one does the rest', async t => {
  for (let i = 0; i < 6; i++) await addTenant()
  let batches = 0
  const cut: RewrapOptions['store'] = {
    query: (...args) => store.query(...args),
    transaction: work =>
      batches++ < 2 ? store.transaction(work) : Promise.reject(new Error('killed')),
  }
  await t.rejects(rewrapSecrets({ store: cut, keyring: both, batchRows: 2 }), /killed/)
  t.strictSame(await countSecrets(store), [
    ...[
      { keyId: before.currentKeyId, secrets: 6, tenants: 2 },
      { keyId: after.currentKeyId, secrets: 12, tenants: 4 },
    ].sort((a, b) => (a.keyId < b.keyId ? -1 : 1)),
  ])
  t.match(await rewrapSecrets({ store, keyring: both }), { tenants: 2, isComplete: true })
})

t.test('an edit that comes between read and write stands, and is brought over too', async t => {
  const tenant = await addTenant()
  const newPassword = before.encrypt('edited', {
    owner: tenant.id,
    column: 'db_password_encrypted',
  })
  let edits = 0
  const racing: RewrapOptions['store'] = {
    query: (...args) => store.query(...args),
    async transaction(work) {
      if (edits++ === 0) {
        const db = { ...tenant.db, host: 'edited.example', passwordEncrypted: newPassword }
        await writeDb(store, tenant.id, db, tenant.configVersion)
      }
      return store.transaction(work)
    },
  }
  t.match(await rewrapSecrets({ store: racing, keyring: both }), { tenants: 1, isComplete: true })
  const row = await store.findById(tenant.id)
  t.equal(row?.db.host, 'edited.example')
  const place = { owner: tenant.id, column: 'db_password_encrypted' } as const
  t.equal(after.decrypt(row?.db.passwordEncrypted ?? '', place), 'edited')
  t.equal(edits, 2, 'the first attempt found it changed')
})

t.test('an edit that was begun before and keeps the password keeps the new ciphertext', async t => {
  const tenant = await addTenant()
  await rewrapSecrets({ store, keyring: both })
  const db = { ...tenant.db, host: 'moved.example', passwordEncrypted: null }
  await writeDb(store, tenant.id, db, tenant.configVersion)
  const row = await store.findById(tenant.id)
  t.equal(row?.db.host, 'moved.example')
  t.equal(keyIdOf(row?.db.passwordEncrypted ?? ''), after.currentKeyId)
})

t.test(
  'a secret that does not open is named and left, and the others are brought over',
  async t => {
    const damaged = await addTenant()
    const [good, foreign] = [
      await addTenant(),
      await addTenant(await Keyring.derive(['c'.repeat(64)])),
    ]
    await registry.admin.query(
      `UPDATE tenants SET bucket_secret_key_encrypted = 'x' WHERE id = $1`,
      [damaged.id],
    )
    const { tenants, unopened, isComplete } = await rewrapSecrets({ store, keyring: both })
    t.match({ tenants, isComplete }, { tenants: 2, isComplete: true })
    const named = unopened.map(({ tenantId, column }) => `${tenantId} ${column}`)
    t.strictSame(
      named.sort(),
      [
        `${damaged.id} bucket_secret_key_encrypted`,
        ...SECRET_COLUMNS.map(column => `${foreign.id} ${column}`),
      ].sort(),
    )
    const read = async (id: TenantId) => (await store.findById(id))?.db.passwordEncrypted ?? ''
    t.equal(keyIdOf(await read(good.id)), after.currentKeyId)
    t.equal(keyIdOf(await read(damaged.id)), after.currentKeyId, 'its other secrets')
    t.equal(await read(foreign.id), foreign.db.passwordEncrypted)
  },
)

t.test(
  'two rotations at once end, and each secret is encrypted once or twice, never lost',
  async t => {
    for (let i = 0; i < 12; i++) await addTenant()
    const run = () => rewrapSecrets({ store, keyring: both, batchRows: 2 })
    const done = await Promise.all([run(), run(), run()])
    t.ok(done.every(({ isComplete }) => isComplete))
    t.equal(
      done.reduce((sum, { tenants }) => sum + tenants, 0),
      12,
    )
    t.strictSame(await countSecrets(store), [
      { keyId: after.currentKeyId, secrets: 36, tenants: 12 },
    ])
  },
)

t.test('a key is not retired while a secret is of it, or of the older tool', async t => {
  const tenant = await addTenant()
  await writeKeyCheck(store, before.currentKeyId, 'x')
  t.equal(await retireKey(store, before.currentKeyId), false)
  await rewrapSecrets({ store, keyring: both })
  const setAccessKey = (text: string | null) =>
    registry.admin.query('UPDATE tenants SET bucket_access_key_encrypted = $1 WHERE id = $2', [
      text,
      tenant.id,
    ])
  await setAccessKey(legacyCiphertext('legacy'))
  t.equal(await retireKey(store, before.currentKeyId), false)
  t.equal((await readKeyChecks(store)).length, 1)
  await setAccessKey(null)
  const under = before.encrypt('pw', { owner: tenant.id, column: 'db_password_encrypted' })
  const onItsWay = `INSERT INTO tenant_rotations (tenant_id, db_password_encrypted, actor)
    VALUES ($1, $2, 'test')`
  await registry.admin.query(onItsWay, [tenant.id, under])
  t.equal(await retireKey(store, before.currentKeyId), false, 'a password that is on its way')
  await registry.admin.query('DELETE FROM tenant_rotations')
  t.equal(await retireKey(store, before.currentKeyId), true)
  t.strictSame(await readKeyChecks(store), [])
  t.equal(await retireKey(store, before.currentKeyId), false, 'there is none any more')
})
