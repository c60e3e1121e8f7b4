import { Client, escapeIdentifier, escapeLiteral } from 'pg'
import type { LocalPostgres } from './postgres.ts'

export interface OwnedDatabase {
  /** Name of the database and of the role that owns it. */
  readonly name: string
  readonly password: string
}

const CONNECT_MS = 5_000
const STATEMENT_MS = 30_000

/**
 * Makes what is missing of `wanted`: a role that may log in and nothing else, and a database that it
 * owns and nobody else may connect to.
 */
export async function createDatabases(
  server: LocalPostgres,
  wanted: readonly OwnedDatabase[],
): Promise<void> {
  await withClient(server.url('postgres'), async client => {
    await client.query('REVOKE CONNECT ON DATABASE postgres, template1 FROM PUBLIC')
    const roles = await namesOf(client, 'SELECT rolname AS name FROM pg_roles')
    const databases = await namesOf(client, 'SELECT datname AS name FROM pg_database')
    for (const { name, password } of wanted) {
      const quoted = escapeIdentifier(name)
      if (!roles.has(name)) {
        await client.query(`CREATE ROLE ${quoted} LOGIN PASSWORD ${escapeLiteral(password)}`)
      }
      if (!databases.has(name)) await client.query(`CREATE DATABASE ${quoted} OWNER ${quoted}`)
      // Repeated for what a start that was cut short between the two left open.
      await client.query(`REVOKE ALL ON DATABASE ${quoted} FROM PUBLIC`)
    }
  })
}

/** A role that makes roles and databases, for tenants that are made from nothing. */
export async function createMaker(server: LocalPostgres, maker: OwnedDatabase): Promise<void> {
  await withClient(server.url('postgres'), async client => {
    const role = escapeIdentifier(maker.name)
    const roles = await namesOf(client, 'SELECT rolname AS name FROM pg_roles')
    if (!roles.has(maker.name)) {
      const password = escapeLiteral(maker.password)
      await client.query(`CREATE ROLE ${role} LOGIN CREATEROLE CREATEDB PASSWORD ${password}`)
    }
    await client.query(`GRANT CONNECT ON DATABASE postgres TO ${role}`)
  })
}

export interface Ports {
  readonly postgres: number
  readonly s3: number
}

/** After a start on other ports than before: tells the Registry where its tenants are now. */
export async function moveTenants(registryUrl: string, from: Ports, to: Ports): Promise<void> {
  const endpoint = (ports: Ports) => `http://127.0.0.1:${ports.s3}`
  await withClient(registryUrl, async client => {
    const { rows } = await client.query("SELECT to_regclass('tenants') IS NOT NULL AS is_there")
    // Gone with a temporary folder of the system: the tenants are made anew, at the new ports.
    if (!rows[0]?.is_there) return
    await client.query(
      `UPDATE tenants SET db_port = $2 WHERE db_host = '127.0.0.1' AND db_port = $1 AND $1 <> $2`,
      [from.postgres, to.postgres],
    )
    await client.query(
      'UPDATE tenants SET bucket_endpoint = $2 WHERE bucket_endpoint = $1 AND $1 <> $2',
      [endpoint(from), endpoint(to)],
    )
  })
}

async function namesOf(client: Client, sql: string): Promise<Set<string>> {
  const { rows } = await client.query<{ name: string }>(sql)
  return new Set(rows.map(row => row.name))
}

async function withClient(url: string, work: (client: Client) => Promise<void>): Promise<void> {
  const client = new Client({
    connectionString: url,
    connectionTimeoutMillis: CONNECT_MS,
    query_timeout: STATEMENT_MS,
    application_name: 'doorman-start',
  })
  // A session that breaks also fails the query; without a listener it would end the process.
  client.on('error', () => {})
  await client.connect()
  try {
    await work(client)
  } finally {
    await client.end().catch(() => {})
  }
}
