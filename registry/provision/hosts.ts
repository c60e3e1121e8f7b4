import type { Client } from 'pg'
import type { Keyring, SecretPlace } from '../envelope.ts'
import type { AddressPolicy } from '../lib/address.ts'
import { Fault } from '../lib/errors.ts'
import { connectPg, sslOptions } from '../lib/pg.ts'
import type { RegistryStore } from '../store.ts'
import type { SslMode } from '../tenant.ts'

/** A PostgreSQL server on which tenants' databases are made. */
export interface DatabaseHost {
  readonly name: string
  readonly host: string
  readonly port: number
  readonly adminUser: string
  readonly adminDb: string
  readonly sslMode: SslMode | null
}

export interface SealedHost extends DatabaseHost {
  readonly adminPasswordEncrypted: string
}

export interface HostAccess {
  readonly keyring: Keyring
  /** PEM of the CA of the tenants' databases. */
  readonly ca: string | undefined
  readonly addressPolicy: AddressPolicy | null
}

const CONNECT_TIMEOUT_MS = 3000
/** CREATE DATABASE copies a template: seconds on a busy server. */
const STATEMENT_TIMEOUT_MS = 60_000

/** Replaces a server of the same name. */
const PUT_HOST = `
  INSERT INTO database_hosts (name, host, port, admin_user, admin_db, ssl_mode, admin_password_encrypted)
  VALUES ($1, $2, $3, $4, $5, $6, $7)
  ON CONFLICT (name) DO UPDATE SET host = excluded.host, port = excluded.port,
    admin_user = excluded.admin_user, admin_db = excluded.admin_db, ssl_mode = excluded.ssl_mode,
    admin_password_encrypted = excluded.admin_password_encrypted`
const HOST_COLUMNS = `name, host, port, admin_user AS "adminUser", admin_db AS "adminDb",
  ssl_mode AS "sslMode", admin_password_encrypted AS "adminPasswordEncrypted"`
const FIND_HOST = `SELECT ${HOST_COLUMNS} FROM database_hosts WHERE name = $1`
const LIST_HOSTS = `SELECT ${HOST_COLUMNS} FROM database_hosts ORDER BY name`
const REWRAP_HOST = `UPDATE database_hosts SET admin_password_encrypted = $3
  WHERE name = $1 AND admin_password_encrypted = $2 RETURNING name`
const REMOVE_HOST = 'DELETE FROM database_hosts WHERE name = $1 RETURNING name'
/** What the role of the operator may do. */
const RIGHTS = `SELECT (rolsuper OR rolcreaterole) AS "mayMakeRoles",
  (rolsuper OR rolcreatedb) AS "mayMakeDatabases" FROM pg_roles WHERE rolname = current_user`

export async function putHost(
  store: RegistryStore,
  host: DatabaseHost,
  password: string,
  access: HostAccess,
): Promise<void> {
  const sealed = { ...host, adminPasswordEncrypted: seal(access.keyring, host.name, password) }
  const client = await connectAdmin(sealed, access)
  try {
    const { rows } = await client.query<{ mayMakeRoles: boolean; mayMakeDatabases: boolean }>(
      RIGHTS,
    )
    if (!rows[0]?.mayMakeRoles || !rows[0].mayMakeDatabases) {
      throw new Fault('VALIDATION_FAILED', `role ${host.adminUser} needs CREATEROLE and CREATEDB`)
    }
  } finally {
    await client.end()
  }
  await store.query(PUT_HOST, [
    ...[host.name, host.host, host.port, host.adminUser, host.adminDb, host.sslMode],
    sealed.adminPasswordEncrypted,
  ])
}

export async function findHost(store: RegistryStore, name: string): Promise<SealedHost> {
  const [row] = await store.query(FIND_HOST, [name])
  if (row === undefined) throw new Fault('VALIDATION_FAILED', `there is no database host ${name}`)
  return row as unknown as SealedHost
}

export async function listHosts(store: RegistryStore): Promise<readonly DatabaseHost[]> {
  const rows = (await store.query(LIST_HOSTS, [])) as unknown as readonly SealedHost[]
  return rows.map(({ adminPasswordEncrypted: _, ...host }) => host)
}

/** @returns false where there was none */
export async function removeHost(store: RegistryStore, name: string): Promise<boolean> {
  return (await store.query(REMOVE_HOST, [name])).length > 0
}

/** Brings the hosts' passwords under the key that encrypts; one that was changed meanwhile is left to the next run. */
export async function rewrapHosts(store: RegistryStore, keyring: Keyring): Promise<number> {
  const rows = (await store.query(LIST_HOSTS, [])) as unknown as readonly SealedHost[]
  let done = 0
  for (const { name, adminPasswordEncrypted: was } of rows) {
    if (!keyring.isOutdated(was)) continue
    const password = keyring.decrypt(was, placeOf(name))
    done += (await store.query(REWRAP_HOST, [name, was, seal(keyring, name, password)])).length
  }
  return done
}

/** A connection with the operator's role; the caller ends it. @throws Fault with what was not reached */
export async function connectAdmin(host: SealedHost, access: HostAccess): Promise<Client> {
  const password = access.keyring.decrypt(host.adminPasswordEncrypted, placeOf(host.name))
  try {
    return await connectPg(
      {
        host: host.host,
        port: host.port,
        database: host.adminDb,
        user: host.adminUser,
        password,
        ssl: sslOptions(host.sslMode, access.ca),
      },
      {
        connectTimeoutMs: CONNECT_TIMEOUT_MS,
        statementTimeoutMs: STATEMENT_TIMEOUT_MS,
        addressPolicy: access.addressPolicy,
        applicationName: 'doorman-provision',
      },
    )
  } catch (error) {
    const reason = error instanceof Fault ? error.reason : (error as Error).message
    throw new Fault('VALIDATION_FAILED', `database host ${host.name} cannot be reached: ${reason}`)
  }
}

function seal(keyring: Keyring, name: string, password: string): string {
  return keyring.encrypt(password, placeOf(name))
}

function placeOf(name: string): SecretPlace {
  return { owner: `host:${name}`, column: 'host_admin_password' }
}
