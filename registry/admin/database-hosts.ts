import type { ClientBase } from 'pg'
import { z } from 'zod'
import { type Fault, publicFault } from '../lib/errors.ts'
import { type DatabaseHost, type SealedHost, sealHost, testHost } from '../provision/hosts.ts'
import { SSL_MODES } from '../tenant.ts'
import type { Actor } from './actor.ts'
import { addAudit } from './audit.ts'
import type { AdminDeps } from './deps.ts'
import { columns } from './fields.ts'
import { accessOf } from './provisioning.ts'

/** A server that tenants' databases are made on, as the control plane shows it: without its password. */
export interface DatabaseHostItem {
  readonly name: string
  readonly host: string
  readonly port: number
  readonly admin_user: string
  readonly admin_db: string
  readonly ssl_mode: string | null
  /** Tenants whose database is there, however it came there. */
  readonly tenants: number
  readonly created_at: string
  readonly updated_at: string
}

const fields = {
  host: columns.db_host,
  port: columns.db_port,
  /** A role with CREATEROLE and CREATEDB. */
  admin_user: columns.db_user,
  admin_db: columns.db_name,
  ssl_mode: z.enum(SSL_MODES, `must be one of ${SSL_MODES.join(', ')}`).nullable(),
  admin_password: columns.db_password,
} as const

export const hostInput = z.strictObject({
  name: z
    .string('must be a text')
    .regex(/^[a-z0-9][a-z0-9-]{0,62}$/, 'must be of a-z, 0-9 and -, 63 at most'),
  ...fields,
  port: fields.port.default(5432),
  admin_db: fields.admin_db.default('postgres'),
  ssl_mode: fields.ssl_mode.default(null),
})
export type HostInput = z.output<typeof hostInput>

export const hostChange = z.strictObject(z.object(fields).partial().shape)
export type HostChange = z.output<typeof hostChange>

const SEALED = `name, host, port, admin_user AS "adminUser", admin_db AS "adminDb",
  ssl_mode AS "sslMode", admin_password_encrypted AS "adminPasswordEncrypted"`
const FIND = `SELECT ${SEALED} FROM database_hosts WHERE name = $1 FOR UPDATE`
/** Tenants by index tenants_database_place. */
const LIST = `
  SELECT name, host, port, admin_user, admin_db, ssl_mode, created_at, updated_at,
    (SELECT count(*)::int FROM tenants t
      WHERE lower(t.db_host) = lower(h.host) AND coalesce(t.db_port, 5432) = h.port) AS tenants
  FROM database_hosts h WHERE $1::text IS NULL OR name = $1 ORDER BY name`
const PUT = `
  INSERT INTO database_hosts (name, host, port, admin_user, admin_db, ssl_mode, admin_password_encrypted)
  VALUES ($1, $2, $3, $4, $5, $6, $7)
  ON CONFLICT (name) DO UPDATE SET host = excluded.host, port = excluded.port,
    admin_user = excluded.admin_user, admin_db = excluded.admin_db, ssl_mode = excluded.ssl_mode,
    admin_password_encrypted = excluded.admin_password_encrypted, updated_at = now()`
const REMOVE = 'DELETE FROM database_hosts WHERE name = $1'
const OPEN_RUN = `
  SELECT tenant_key FROM provisioning_runs WHERE spec ->> 'host' = $1 ORDER BY tenant_key LIMIT 1`

export async function listDatabaseHosts({
  store,
}: Pick<AdminDeps, 'store'>): Promise<readonly DatabaseHostItem[]> {
  return (await store.query(LIST, [null])).map(itemOf)
}

/** @throws Fault NOT_FOUND */
export async function getDatabaseHost(
  { store }: Pick<AdminDeps, 'store'>,
  name: string,
): Promise<DatabaseHostItem> {
  const [row] = await store.query(LIST, [name])
  if (row === undefined) throw noHost(name)
  return itemOf(row)
}

/**
 * Connects before it saves: a password that does not work is of no use later.
 *
 * @param options.replaces takes the place of one of the same name
 * @throws Fault CONNECTION_TEST_FAILED, CONFLICT where there is one of that name
 */
export async function addDatabaseHost(
  deps: AdminDeps,
  actor: Actor,
  input: HostInput,
  { replaces = false } = {},
): Promise<DatabaseHostItem> {
  const access = await accessOf(deps)
  const { name, host, port, admin_user, admin_db, ssl_mode, admin_password } = input
  const plain = { name, host, port, adminUser: admin_user, adminDb: admin_db, sslMode: ssl_mode }
  const sealed = sealHost(access.keyring, plain, admin_password)
  await testHost(sealed, access)
  await deps.store.transaction(async client => {
    const present = await find(client, name)
    if (present !== null && !replaces)
      throw publicFault('CONFLICT', `there is a database host ${name} already`)
    await put(client, sealed)
    await tell(client, actor, present, sealed)
  })
  return getDatabaseHost(deps, name)
}

/**
 * Changes what is given and leaves the rest; what comes of it is tested before it is saved.
 *
 * @throws Fault NOT_FOUND, CONNECTION_TEST_FAILED, CONFLICT where it was changed meanwhile
 */
export async function changeDatabaseHost(
  deps: AdminDeps,
  actor: Actor,
  name: string,
  change: HostChange,
): Promise<DatabaseHostItem> {
  const access = await accessOf(deps)
  const seen = await deps.store.use(client => find(client, name))
  if (seen === null) throw noHost(name)
  const given: Partial<DatabaseHost> = {
    ...(change.host !== undefined && { host: change.host }),
    ...(change.port !== undefined && { port: change.port }),
    ...(change.admin_user !== undefined && { adminUser: change.admin_user }),
    ...(change.admin_db !== undefined && { adminDb: change.admin_db }),
    ...(change.ssl_mode !== undefined && { sslMode: change.ssl_mode }),
  }
  const plain = { ...seen, ...given }
  const { admin_password: password } = change
  const sealed = password === undefined ? plain : sealHost(access.keyring, plain, password)
  await testHost(sealed, access)
  await deps.store.transaction(async client => {
    const present = await find(client, name)
    if (present === null) throw noHost(name)
    if (JSON.stringify(present) !== JSON.stringify(seen)) {
      throw publicFault(
        'CONFLICT',
        'The database host was changed by someone else meanwhile; read it again.',
      )
    }
    await put(client, sealed)
    await tell(client, actor, present, sealed)
  })
  return getDatabaseHost(deps, name)
}

/** Tenants on it stay as they are. @throws Fault NOT_FOUND, CONFLICT where a tenant is being made on it */
export async function removeDatabaseHost(
  { store }: Pick<AdminDeps, 'store'>,
  actor: Actor,
  name: string,
): Promise<void> {
  await store.transaction(async client => {
    const present = await find(client, name)
    if (present === null) throw noHost(name)
    const { rows } = await client.query<{ tenant_key: string }>(OPEN_RUN, [name])
    const [open] = rows
    if (open !== undefined) {
      throw publicFault(
        'CONFLICT',
        `tenant ${open.tenant_key} is being made on it: end or undo that first`,
      )
    }
    await client.query(REMOVE, [name])
    await tell(client, actor, present, null)
  })
}

async function find(client: ClientBase, name: string): Promise<SealedHost | null> {
  return (await client.query<SealedHost>(FIND, [name])).rows[0] ?? null
}

async function put(client: ClientBase, host: SealedHost): Promise<void> {
  await client.query(PUT, [
    ...[host.name, host.host, host.port, host.adminUser, host.adminDb, host.sslMode],
    host.adminPasswordEncrypted,
  ])
}

async function tell(
  client: ClientBase,
  actor: Actor,
  before: SealedHost | null,
  after: SealedHost | null,
): Promise<void> {
  const verb = before === null ? 'add' : after === null ? 'remove' : 'update'
  const isNewPassword = before?.adminPasswordEncrypted !== after?.adminPasswordEncrypted
  await addAudit(client, {
    ...{ actor, action: `database_host.${verb}` },
    ...(before !== null && { before: shown(before) }),
    details: {
      ...shown(after ?? (before as SealedHost)),
      ...(after !== null && isNewPassword && { admin_password: '[secret]' }),
    },
  })
}

function shown({ adminPasswordEncrypted: _, ...host }: SealedHost): Record<string, unknown> {
  return host
}

function itemOf(row: Readonly<Record<string, unknown>>): DatabaseHostItem {
  return {
    name: String(row.name),
    host: String(row.host),
    port: Number(row.port),
    admin_user: String(row.admin_user),
    admin_db: String(row.admin_db),
    ssl_mode: typeof row.ssl_mode === 'string' ? row.ssl_mode : null,
    tenants: Number(row.tenants),
    created_at: (row.created_at as Date).toISOString(),
    updated_at: (row.updated_at as Date).toISOString(),
  }
}

function noHost(name: string): Fault {
  const text = `There is no database host ${name}.`
  return publicFault('NOT_FOUND', text)
}
