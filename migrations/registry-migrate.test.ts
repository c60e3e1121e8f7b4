import { execFile } from 'node:child_process'
import { createCipheriv, pbkdf2Sync, randomBytes, randomUUID } from 'node:crypto'
import { join } from 'node:path'
import pg from 'pg'
import t from 'tap'
import { startTestPostgres } from '../deploy/local/postgres.ts'
import { childEnv } from '../deploy/local/run.ts'
import { openConnections } from '../registry/connection.ts'
import { Keyring } from '../registry/envelope.ts'
import { makeLog } from '../registry/lib/log.ts'
import { RegistryStore } from '../registry/store.ts'
import type { TenantId, TenantKey } from '../registry/tenant.ts'
import { writeStatus } from '../registry/tenant-write.ts'

const MASTER = 'a master key that is long enough to be one'
const server = await startTestPostgres()
t.teardown(() => server.stop())

interface Run {
  readonly code: number
  readonly stdout: string
  readonly stderr: string
}

function runMigrate(env: Record<string, string>, args: readonly string[] = []): Promise<Run> {
  return new Promise(resolve => {
    execFile(
      process.execPath,
      [join(import.meta.dirname, 'registry-migrate.ts'), ...args],
      { env: { ...childEnv(), ...env } },
      (error, stdout, stderr) => resolve({ code: Number(error?.code ?? 0), stdout, stderr }),
    )
  })
}

async function makeDatabase(name: string) {
  const admin = new pg.Client({ connectionString: server.url('postgres') })
  await admin.connect()
  await admin.query(`CREATE DATABASE ${name}`)
  await admin.end()
  const client = new pg.Client({ connectionString: server.url(name) })
  await client.connect()
  return { client, url: server.url(name) }
}

/** As the older tool encrypted. */
function sealLegacy(plaintext: string): string {
  const key = pbkdf2Sync(MASTER, 'tenant-registry-salt', 100_000, 32, 'sha256')
  const iv = randomBytes(16)
  const cipher = createCipheriv('aes-256-gcm', key, iv)
  const sealed = Buffer.concat([cipher.update(plaintext, 'utf8'), cipher.final()])
  return Buffer.concat([iv, cipher.getAuthTag(), sealed]).toString('base64')
}

const shapeOf = async (client: pg.Client) => {
  const { rows } = await client.query(`
    SELECT table_name, column_name, data_type, column_default FROM information_schema.columns
    WHERE table_schema = 'public' ORDER BY 1, 2`)
  const { rows: checks } = await client.query(`
    SELECT conname, pg_get_constraintdef(oid) AS def FROM pg_constraint
    WHERE conrelid = 'tenants'::regclass ORDER BY 1`)
  return { rows, checks }
}

const OLD_COLUMNS = `
  db_host varchar(255), db_port integer, db_name varchar(255), db_user varchar(255),
  db_password_encrypted text, bucket_provider varchar(50), bucket_name varchar(255),
  bucket_access_key_encrypted text, bucket_secret_key_encrypted text, bucket_region varchar(50),
  bucket_endpoint varchar(255), created_at timestamptz DEFAULT now()`
const OLD_USAGE = `
  CREATE TABLE customer_usage_daily (tenant_id uuid REFERENCES tenants(id), date date,
    api_requests integer DEFAULT 0, pdf_generated integer DEFAULT 0, active_users integer DEFAULT 0,
    storage_gb numeric DEFAULT 0, PRIMARY KEY (tenant_id, date));
  CREATE TABLE user_activity_daily (tenant_id uuid, date date, user_id varchar(64),
    UNIQUE (tenant_id, date, user_id));`

const OLDER = {
  enums: `
    CREATE TYPE tenant_mode AS ENUM ('shared', 'dedicated');
    CREATE TYPE tenant_status AS ENUM ('active', 'suspended');
    CREATE TABLE tenants (id uuid PRIMARY KEY, tenant_key varchar(100) UNIQUE NOT NULL,
      mode tenant_mode NOT NULL DEFAULT 'shared', status tenant_status NOT NULL DEFAULT 'active',
      ${OLD_COLUMNS}); ${OLD_USAGE}`,
  varchars: `
    CREATE TABLE tenants (id uuid PRIMARY KEY, tenant_key text UNIQUE NOT NULL,
      mode varchar(20) NOT NULL DEFAULT 'shared', status varchar(20) NOT NULL DEFAULT 'active',
      ${OLD_COLUMNS}); ${OLD_USAGE}`,
  checks: `
    CREATE TABLE tenants (id uuid PRIMARY KEY, tenant_key text UNIQUE NOT NULL,
      mode text NOT NULL CHECK (mode IN ('shared', 'dedicated')),
      status text NOT NULL CHECK (status IN ('active', 'suspended')),
      ${OLD_COLUMNS}, name text, config_version bigint NOT NULL DEFAULT 0);`,
}

for (const [kind, sql] of Object.entries(OLDER)) {
  t.test(`a Registry of the older tool (${kind}) migrates, keeps its data, and runs`, async t => {
    const { client, url } = await makeDatabase(`older_${kind}`)
    await client.query(sql)
    const ids = [randomUUID(), randomUUID()] as string[]
    for (const [i, id] of ids.entries()) {
      await client.query(
        `INSERT INTO tenants (id, tenant_key, mode, status, db_host, db_port, db_name, db_user,
           db_password_encrypted, bucket_name, bucket_access_key_encrypted, bucket_secret_key_encrypted)
         VALUES ($1, $2, 'shared', $3, 'db', 5432, 'd', 'u', $4, 'one-bucket', $5, $6)`,
        [id, `old-${i}`, i ? 'suspended' : 'active', ...['pässword', 'ak', 'sk'].map(sealLegacy)],
      )
    }
    if (sql.includes('customer_usage_daily')) {
      await client.query(
        `INSERT INTO customer_usage_daily VALUES ($1, '2026-01-01', 7, 1, 2, 0.5)`,
        [ids[0]],
      )
    }

    const env = { TENANT_REGISTRY_DB_URL: url, MASTER_ENCRYPTION_KEY: MASTER }
    const first = await runMigrate(env)
    t.match(first, { code: 0, stderr: '' })
    t.match(first.stdout, /applied 0001.*applied 0006.*Master key fits/s)
    const before = await shapeOf(client)
    const second = await runMigrate(env)
    t.match(second, { code: 0, stderr: '' })
    t.notMatch(second.stdout, 'applied')
    t.strictSame(await shapeOf(client), before, 'the second run changes nothing')

    const store = new RegistryStore({ url, log: makeLog('x', 'silent') })
    const keyring = await Keyring.derive([MASTER])
    const tenant = await store.findByKey('old-0' as TenantKey)
    t.match(tenant, { id: ids[0], status: 'active', mode: 'shared' })
    if (tenant === null) throw new Error('not found')
    t.match(openConnections(keyring, tenant), {
      db: { password: 'pässword' },
      bucket: { access_key: 'ak', secret_key: 'sk' },
    })
    t.equal((await store.findById(ids[1] as TenantId))?.status, 'suspended')
    t.equal(tenant.tokenIssuer, null, 'only the platform’s tokens are good for it')
    for (const status of ['maintenance', 'archived'] as const) {
      t.equal((await writeStatus(store, tenant.id, status, null))?.status, status)
    }
    await t.rejects(client.query(`UPDATE tenants SET status = 'odd' WHERE id = $1`, [ids[1]]))
    await t.rejects(client.query(`UPDATE tenants SET mode = 'odd' WHERE id = $1`, [ids[1]]))
    const { rows } = await client.query('SELECT * FROM customer_usage_daily')
    if (sql.includes('customer_usage_daily'))
      t.match(rows, [{ tenant_id: ids[0], active_users: 2 }])
    else t.strictSame(rows, [])

    const wrong = await runMigrate({ ...env, MASTER_ENCRYPTION_KEY: 'another key, just as long' })
    t.equal(wrong.code, 1)
    t.match(wrong.stderr, /^doorman: MASTER_ENCRYPTION_KEY is not the key .*\n$/)
    await store.close()
    await client.end()
  })
}

t.test('the migrations alone, without a record of them, run again on what they made', async t => {
  const { client, url } = await makeDatabase('unrecorded')
  t.match(await runMigrate({ TENANT_REGISTRY_DB_URL: url }), { code: 0 })
  const before = await shapeOf(client)
  await client.query('DROP TABLE doorman_migrations')
  t.match(await runMigrate({ TENANT_REGISTRY_DB_URL: url }), { code: 0, stderr: '' })
  t.strictSame(await shapeOf(client), before)
  await client.end()
})

t.test(
  'rows that break a rule are kept, warned of, and must be mended by their next change',
  async t => {
    const { client, url } = await makeDatabase('odd_rows')
    await client.query(OLDER.varchars)
    const insert = 'INSERT INTO tenants (id, tenant_key, status) VALUES ($1, $2, $3)'
    await client.query(insert, [randomUUID(), 'odd', 'trial'])
    await client.query(insert, [randomUUID(), 'Twin', 'active'])
    await client.query(insert, [randomUUID(), 'twin', 'active'])
    const run = await runMigrate({ TENANT_REGISTRY_DB_URL: url })
    t.equal(run.code, 0)
    t.match(run.stderr, /1 row\(s\) of tenants break tenants_status_known/)
    t.match(run.stderr, /differ only in case/)
    const { rows } = await client.query(`SELECT status FROM tenants WHERE tenant_key = 'odd'`)
    t.strictSame(rows, [{ status: 'trial' }])
    await t.rejects(client.query(`UPDATE tenants SET name = 'n' WHERE tenant_key = 'odd'`))
    await t.resolves(
      client.query(`UPDATE tenants SET status = 'suspended' WHERE tenant_key = 'odd'`),
    )
    await client.end()
  },
)

t.test('a plan shows the SQL and changes nothing', async t => {
  const { client, url } = await makeDatabase('planned')
  const plan = await runMigrate({ TENANT_REGISTRY_DB_URL: url }, ['--plan'])
  t.match(plan, {
    code: 0,
    stdout: /^-- Registry is at no version\n\n-- 0001_base.sql\n.*CREATE TABLE/s,
  })
  const { rows } = await client.query(`SELECT FROM pg_tables WHERE schemaname = 'public'`)
  t.strictSame(rows, [])
  await client.end()
})

t.test('a missing or wrong environment is named, without a stack trace', async t => {
  const run = await runMigrate({ TENANT_REGISTRY_DB_URL: 'http://x' })
  t.equal(run.code, 1)
  t.match(run.stderr, /TENANT_REGISTRY_DB_URL must be a URL/)
  t.notMatch(run.stderr, /\n\s+at /)
})
