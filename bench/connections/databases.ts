import { randomBytes } from 'node:crypto'
import { fileURLToPath } from 'node:url'
import pg from 'pg'
import { type LocalPostgres, startTestPostgres } from '../../deploy/local/postgres.ts'
import { childEnv, run } from '../../deploy/local/run.ts'

export interface FleetTenant {
  readonly id: string
  readonly key: string
  readonly database: string
}

/** PostgreSQL with a Registry and one migrated database for each tenant. */
export interface FleetDatabases {
  readonly postgres: LocalPostgres
  readonly registryUrl: string
  readonly masterKey: string
  readonly tenants: readonly FleetTenant[]
  stop(): Promise<void>
}

export interface FleetDatabasesOptions {
  readonly tenants: number
  /** PostgreSQL's max_connections. */
  readonly connectionsMax: number
  /** Further settings of PostgreSQL. */
  readonly settings?: Readonly<Record<string, string>>
  /** `db_pool_max` of the tenant with this number. */
  readonly budgetOf?: (tenant: number) => number | null
}

const ROOT = fileURLToPath(new URL('../..', import.meta.url))
const COMMAND_MS = 300_000
const OWNER = 'tenants'

/**
 * One database is migrated by `npm run db:tenant-migrate`; the others are copies of it, which
 * PostgreSQL makes in a few dozen milliseconds each. They belong to one role.
 */
export async function makeFleetDatabases(options: FleetDatabasesOptions): Promise<FleetDatabases> {
  const postgres = await startTestPostgres({
    max_connections: String(options.connectionsMax),
    ...options.settings,
  })
  try {
    const registryUrl = postgres.url('postgres')
    const masterKey = randomBytes(32).toString('hex')
    const env = { TENANT_REGISTRY_DB_URL: registryUrl, MASTER_ENCRYPTION_KEY: masterKey }
    const command = (args: readonly string[], input = '') => runNode(args, env, input)
    const password = randomBytes(18).toString('base64url')
    const db = { host: postgres.host, port: postgres.port, user: OWNER, password }
    const lines = Array.from({ length: options.tenants }, (_, i) => {
      const pool_max = options.budgetOf?.(i) ?? null
      const place = { ...db, name: databaseOf(i), ssl_mode: 'disable', pool_max }
      return `${JSON.stringify({ key: keyOf(i), db: place })}\n`
    })
    const client = new pg.Client({ connectionString: registryUrl })
    client.on('error', () => {})
    await client.connect()
    try {
      await client.query(`CREATE ROLE ${OWNER} LOGIN PASSWORD '${password}'`)
      await client.query(`CREATE DATABASE ${databaseOf(0)} OWNER ${OWNER}`)
      await command(['migrations/registry-migrate.ts'])
      await command(['registry/cli/main.ts', 'create', '--batch'], lines.join(''))
      await command(['migrations/tenant-migrate.ts', '--tenant-key', keyOf(0)])
      for (let i = 1; i < options.tenants; i++) {
        const template = `OWNER ${OWNER} TEMPLATE ${databaseOf(0)}`
        await client.query(`CREATE DATABASE ${databaseOf(i)} ${template}`)
      }
      const { rows } = await client.query<{ id: string; key: string; database: string }>(
        `SELECT id::text, tenant_key AS key, db_name AS database FROM tenants
         WHERE status = 'active' ORDER BY length(tenant_key), tenant_key`,
      )
      if (rows.length !== options.tenants) throw new Error(`${rows.length} tenants are active`)
      return { postgres, registryUrl, masterKey, tenants: rows, stop: () => postgres.stop() }
    } finally {
      await client.end()
    }
  } catch (error) {
    await postgres.stop()
    throw error
  }
}

const keyOf = (tenant: number) => `fleet-${tenant}`
const databaseOf = (tenant: number) => `fleet_${tenant}`

async function runNode(
  args: readonly string[],
  env: Readonly<Record<string, string>>,
  input: string,
): Promise<void> {
  const options = { cwd: ROOT, env: { ...childEnv(), ...env }, input }
  const { code, output } = await run(process.execPath, args, COMMAND_MS, options)
  if (code !== 0) throw new Error(`${args.join(' ')} ended with ${code}: ${output}`)
}
