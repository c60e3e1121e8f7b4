import { randomBytes, randomUUID } from 'node:crypto'
import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import pg from 'pg'
import { type LocalPostgres, startTestPostgres } from '../deploy/local/postgres.ts'
import { makeLog } from './lib/log.ts'
import type { TenantId, TenantKey } from './tenant.ts'
import type { NewTenant } from './tenant-write.ts'

/** For tests: a PostgreSQL with an empty Registry of this release's schema. */
export interface TestRegistry {
  readonly server: LocalPostgres
  readonly url: string
  /** Superuser statements, beside the code under test. */
  readonly admin: pg.Pool
  stop(): Promise<void>
}

export async function startTestRegistry(): Promise<TestRegistry> {
  const server = await startTestPostgres()
  const setup = new pg.Client({ connectionString: server.url('postgres') })
  await setup.connect()
  await setup.query('CREATE DATABASE registry')
  await setup.end()
  const url = server.url('registry')
  const admin = new pg.Pool({ connectionString: url, max: 4 })
  admin.on('error', () => {})
  const folder = join(import.meta.dirname, '../migrations/registry')
  for (const name of (await readdir(folder)).sort()) {
    await admin.query(await readFile(join(folder, name), 'utf8'))
  }
  return {
    server,
    url,
    admin,
    stop: async () => {
      await admin.end()
      await server.stop()
    },
  }
}

export const silent = makeLog('test', 'silent')

/** A tenant ready to be created; `key` is random unless given. */
export function newTenant(changes: Partial<NewTenant> = {}): NewTenant {
  const key = `t${randomBytes(6).toString('hex')}` as TenantKey
  return {
    id: randomUUID() as string as TenantId,
    key,
    name: null,
    mode: 'shared',
    status: 'active',
    db: {
      host: '127.0.0.1',
      port: 5432,
      name: key,
      user: 'tenant',
      passwordEncrypted: 'v1.sealed',
      sslMode: null,
      poolMax: null,
    },
    bucket: null,
    ...changes,
  }
}

/** Waits for `condition`, polled, and fails with `what` after `ms`. */
export async function until(what: string, condition: () => boolean, ms = 5000): Promise<void> {
  const deadline = Date.now() + ms
  while (!condition()) {
    if (Date.now() > deadline) throw new Error(`not within ${ms} ms: ${what}`)
    await new Promise(resolve => setTimeout(resolve, 5))
  }
}
