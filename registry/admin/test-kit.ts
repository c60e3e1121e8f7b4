import { randomBytes } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createDatabases } from '../../deploy/local/databases.ts'
import { type LocalS3, startS3 } from '../../deploy/local/s3.ts'
import { Keyring } from '../envelope.ts'
import { RegistryStore } from '../store.ts'
import { silent, startTestRegistry, type TestRegistry } from '../test-kit.ts'
import type { Actor } from './actor.ts'
import { createTenant } from './create.ts'
import type { AdminDeps } from './deps.ts'
import { createInput, readFields } from './fields.ts'
import type { TenantItem } from './item.ts'

/** For tests: the service on a real Registry, and real databases and buckets for its tenants. */
export interface AdminWorld {
  readonly registry: TestRegistry
  readonly s3: LocalS3
  readonly deps: AdminDeps
  /** For processes of their own: what they open the Registry and its secrets with. */
  readonly env: Readonly<Record<string, string>>
  /** A database with a role of its own; details as a body has them. */
  makeDatabase(name: string): Promise<DbDetails>
  readonly bucket: Readonly<Record<string, string>>
  /** A tenant with a database of its own. */
  create(key: string, change?: object): Promise<TenantItem>
  stop(): Promise<void>
}

export interface DbDetails {
  readonly db_host: string
  readonly db_port: number
  readonly db_name: string
  readonly db_user: string
  readonly db_password: string
}

export const owner: Actor = { name: 'an owner', scope: 'own', requestId: 'request-1' }
export const operator: Actor = { name: 'an operator', scope: 'operate', requestId: 'request-2' }

export async function startAdminWorld(): Promise<AdminWorld> {
  const dataDir = await mkdtemp(join(tmpdir(), 'doorman-test-admin-'))
  const [registry, s3] = await Promise.all([
    startTestRegistry(),
    startS3({ dataDir, buckets: ['shared', 'own'] }),
  ])
  const store = new RegistryStore({ url: registry.url, log: silent, queryTimeoutMs: 10_000 })
  const masterKey = randomBytes(32).toString('hex')
  const keyring = await Keyring.derive([masterKey])
  const deps: AdminDeps = {
    store,
    keyring: async () => keyring,
    tenantCa: undefined,
    addressPolicy: null,
    platformIssuer: 'https://platform.example',
    isProduction: false,
    archiveGraceDays: 30,
    log: silent,
  }
  const makeDatabase = async (name: string) => {
    const password = randomBytes(12).toString('hex')
    await createDatabases(registry.server, [{ name, password }])
    const place = { db_host: '127.0.0.1', db_port: registry.server.port }
    return { ...place, db_name: name, db_user: name, db_password: password }
  }
  return {
    registry,
    s3,
    deps,
    env: { TENANT_REGISTRY_DB_URL: registry.url, MASTER_ENCRYPTION_KEY: masterKey },
    makeDatabase,
    bucket: {
      ...{ bucket_provider: 's3', bucket_name: 'shared', bucket_endpoint: s3.endpoint },
      ...{ bucket_access_key: s3.accessKey, bucket_secret_key: s3.secretKey },
    },
    async create(key, change = {}) {
      const details = await makeDatabase(`db_${key}`)
      const body = { tenant_key: key, ...details, verify: false, ...change }
      return createTenant(deps, owner, readFields(createInput, body))
    },
    async stop() {
      await store.close()
      await registry.stop()
      await s3.stop()
      await rm(dataDir, { recursive: true, force: true })
    },
  }
}

/** What the Registry would hand the app of a tenant: the proof that a password is the right one. */
export async function storedPassword(
  { deps, registry }: AdminWorld,
  { id }: TenantItem,
): Promise<string> {
  const { rows } = await registry.admin.query(
    'SELECT db_password_encrypted FROM tenants WHERE id = $1',
    [id],
  )
  const keyring = await deps.keyring()
  return keyring.decrypt(rows[0].db_password_encrypted, {
    owner: id,
    column: 'db_password_encrypted',
  })
}
