import { createCipheriv, pbkdf2Sync, randomBytes, randomUUID } from 'node:crypto'
import t from 'tap'
import { type RegistrySetup, startWorld } from './test-kit.ts'

/** A Registry as the older tool left it: its tables, its ciphertexts, no record of migrations. */
const world = await startWorld({ apps: 1, prepareRegistry: makeOlderRegistry })
t.teardown(world.close)

t.test('tenants of an older Registry are served with what it says of them', async t => {
  const rows = await world.registrySql(
    'SELECT db_password_encrypted AS db, bucket_secret_key_encrypted AS bucket FROM tenants',
  )
  t.equal(rows.length, 2, 'none was made anew')
  for (const { db, bucket } of rows) {
    t.notMatch(db, /^v1\./, 'the ciphertexts are still the old ones')
    t.notMatch(bucket, /^v1\./)
  }
  for (const tenant of world.tenants) {
    const { accessToken: token } = await world.login(tenant)
    t.match((await world.call('/api/whoami', { token })).result, {
      database: tenant.database,
      tenant: { id: tenant.id, key: tenant.key, mode: 'shared' },
    })
    const created = await world.call('/api/projects', {
      method: 'POST',
      token,
      json: { name: 'kept' },
    })
    t.equal(created.status, 201)
  }
  // The older schema knows no prefix, so that acme alone has a bucket of its own.
  const { accessToken: token } = await world.login(world.acme)
  const stored = await world.call('/api/files/a.txt', { method: 'PUT', token, body: 'old' })
  t.equal(stored.status, 201)
  t.match(await world.call('/api/files/a.txt', { token }), { status: 200, text: 'old' })
})

t.test('usage of the older Registry is still there', async t => {
  const rows = await world.registrySql('SELECT tenant_id, api_requests FROM customer_usage_daily')
  t.match(rows, [{ tenant_id: world.acme.id, api_requests: '7' }])
})

t.test('a change by its old tool is seen, and a new password is sealed anew', async t => {
  const { acme, globex } = world
  const { accessToken: token } = await world.login(acme)
  const statusOf = async () => (await world.call('/api/whoami', { token })).status
  await world.registrySql(`UPDATE tenants SET status = 'suspended' WHERE id = $1`, [acme.id])
  t.equal(await eventually(statusOf, 403), 403)
  await world.registrySql(`UPDATE tenants SET status = 'active' WHERE id = $1`, [acme.id])
  t.equal(await eventually(statusOf, 200), 200)
  t.equal((await world.cli(['set-db', 'acme'], `${acme.password}\n`)).code, 0)
  const [row] = await world.registrySql(
    'SELECT db_password_encrypted AS db FROM tenants WHERE id = $1',
    [acme.id],
  )
  t.match(row?.db, /^v1\./)
  t.equal(await statusOf(), 200)
  t.ok((await world.login(globex)).accessToken, 'beside one that is still old')
})

async function eventually(read: () => Promise<number>, wanted: number): Promise<number> {
  const deadline = Date.now() + 1000
  let last = await read()
  while (last !== wanted && Date.now() < deadline) last = await read()
  return last
}

async function makeOlderRegistry({
  tenants,
  keys,
  postgresPort,
  s3Endpoint,
  query,
}: RegistrySetup) {
  await query(`
    CREATE TYPE tenant_mode AS ENUM ('shared', 'dedicated');
    CREATE TYPE tenant_status AS ENUM ('active', 'suspended');
    CREATE TABLE tenants (id uuid PRIMARY KEY, tenant_key varchar(100) UNIQUE NOT NULL,
      mode tenant_mode NOT NULL DEFAULT 'shared', status tenant_status NOT NULL DEFAULT 'active',
      db_host varchar(255), db_port integer, db_name varchar(255), db_user varchar(255),
      db_password_encrypted text, bucket_provider varchar(50), bucket_name varchar(255),
      bucket_access_key_encrypted text, bucket_secret_key_encrypted text, bucket_region varchar(50),
      bucket_endpoint varchar(255), created_at timestamptz DEFAULT now());
    CREATE TABLE customer_usage_daily (tenant_id uuid REFERENCES tenants(id), date date,
      api_requests integer DEFAULT 0, pdf_generated integer DEFAULT 0,
      active_users integer DEFAULT 0, storage_gb numeric DEFAULT 0, PRIMARY KEY (tenant_id, date));
    CREATE TABLE user_activity_daily (tenant_id uuid, date date, user_id varchar(64),
      UNIQUE (tenant_id, date, user_id));
    ALTER TABLE tenants OWNER TO registry;
    ALTER TABLE customer_usage_daily OWNER TO registry;
    ALTER TABLE user_activity_daily OWNER TO registry;
    ALTER TYPE tenant_mode OWNER TO registry;
    ALTER TYPE tenant_status OWNER TO registry`)
  const key = pbkdf2Sync(keys.masterKey, 'tenant-registry-salt', 100_000, 32, 'sha256')
  for (const { key: tenantKey, database, password, bucket, bucketKeys } of tenants) {
    const { accessKey, secretKey } = bucketKeys
    await query(
      `INSERT INTO tenants (id, tenant_key, db_host, db_port, db_name, db_user,
         db_password_encrypted, bucket_provider, bucket_name, bucket_access_key_encrypted,
         bucket_secret_key_encrypted, bucket_region, bucket_endpoint)
       VALUES ($1, $2, '127.0.0.1', $3, $4, $4, $5, 's3', $6, $7, $8, 'us-east-1', $9)`,
      [
        ...[randomUUID(), tenantKey, postgresPort, database],
        ...[seal(key, password), bucket, seal(key, accessKey), seal(key, secretKey), s3Endpoint],
      ],
    )
  }
  await query(
    `INSERT INTO customer_usage_daily SELECT id, '2026-01-01', 7 FROM tenants
     WHERE tenant_key = 'acme'`,
  )
}

/** As the older tool encrypted: base64(iv 16 ‖ tag 16 ‖ ciphertext). */
function seal(key: Buffer, plaintext: string): string {
  const iv = randomBytes(16)
  const cipher = createCipheriv('aes-256-gcm', key, iv)
  const sealed = Buffer.concat([cipher.update(plaintext, 'utf8'), cipher.final()])
  return Buffer.concat([iv, cipher.getAuthTag(), sealed]).toString('base64')
}
