import type { Client } from 'pg'
import { databaseProblem } from '../admin/probe-database.ts'
import type { Keyring, SecretPlace } from '../envelope.ts'
import type { AddressPolicy } from '../lib/address.ts'
import { Fault, publicFault } from '../lib/errors.ts'
import { closePg, connectPg, sslOptions } from '../lib/pg.ts'
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

const HOST_COLUMNS = `name, host, port, admin_user AS "adminUser", admin_db AS "adminDb",
  ssl_mode AS "sslMode", admin_password_encrypted AS "adminPasswordEncrypted"`
const FIND_HOST = `SELECT ${HOST_COLUMNS} FROM database_hosts WHERE name = $1`
/** What the role of the operator may do. */
const RIGHTS = `SELECT (rolsuper OR rolcreaterole) AS "mayMakeRoles",
  (rolsuper OR rolcreatedb) AS "mayMakeDatabases" FROM pg_roles WHERE rolname = current_user`

/** @throws Fault VALIDATION_FAILED */
export async function findHost(store: RegistryStore, name: string): Promise<SealedHost> {
  const [row] = await store.query(FIND_HOST, [name])
  if (row !== undefined) return row as unknown as SealedHost
  const text = `there is no database host ${name}`
  throw new Fault('VALIDATION_FAILED', text, {
    publicMessage: text,
    problems: { 'provision.host': text },
  })
}

/**
 * Connects as a run would, and looks whether the role may do what a run does.
 *
 * @throws Fault CONNECTION_TEST_FAILED
 */
export async function testHost(host: SealedHost, access: HostAccess): Promise<void> {
  const client = await connectAdmin(host, access)
  try {
    const { rows } = await client.query<{ mayMakeRoles: boolean; mayMakeDatabases: boolean }>(
      RIGHTS,
    )
    if (rows[0]?.mayMakeRoles && rows[0].mayMakeDatabases) return
  } finally {
    await closePg(client)
  }
  throw failed(`role ${host.adminUser} needs CREATEROLE and CREATEDB`)
}

/**
 * A connection with the operator's role; the caller ends it.
 *
 * @throws Fault CONNECTION_TEST_FAILED in words of ours: what a server says may repeat a secret
 */
export async function connectAdmin(host: SealedHost, access: HostAccess): Promise<Client> {
  const password = access.keyring.decrypt(host.adminPasswordEncrypted, placeOfHost(host.name))
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
    const [, problem] = databaseProblem(error)
    throw failed(`database host ${host.name} cannot be reached: ${problem}`)
  }
}

export function sealHost(keyring: Keyring, host: DatabaseHost, password: string): SealedHost {
  return { ...host, adminPasswordEncrypted: keyring.encrypt(password, placeOfHost(host.name)) }
}

export function placeOfHost(name: string): SecretPlace {
  return { owner: `host:${name}`, column: 'host_admin_password' }
}

function failed(text: string): Fault {
  return publicFault('CONNECTION_TEST_FAILED', text)
}
