import type pg from 'pg'
import type { Fault } from './lib/errors.ts'
import { publicFault } from './lib/errors.ts'
import type { RegistryStore } from './store.ts'
import type { Tenant, TenantId } from './tenant.ts'
import type { TenantRow } from './tenant-row.ts'

/** Where a tenant's rows are. Two tenants in one place would share them. */
export type DatabasePlace = Pick<Tenant['db'], 'host' | 'port' | 'name'>

/** The database of a row as two rows can be compared; another name of the same host goes unnoticed. */
const DATABASE_PLACE = 'lower(db_host), coalesce(db_port, 5432), db_name'

/** Two operators who take the same database at once wait for each other. $1 host:port/name. */
const LOCK_DATABASE =
  "SELECT pg_advisory_xact_lock(hashtextextended('doorman database ' || lower($1), 0))"

/**
 * Under that lock: who has the database $2, $3, $4 already, where tenant $1 does not have it itself by
 * now (a row of an older Registry must take a new password all the same). Reads the whole table: a few
 * milliseconds at ten thousand tenants, and only when an operator places a tenant.
 */
const FIND_DATABASE_OWNER = `
  SELECT id, tenant_key FROM tenants WHERE (${DATABASE_PLACE}) = (lower($2), $3::int, $4)
  ORDER BY id = $1 DESC, tenant_key LIMIT 1`

/** The same for many at once, in one order everywhere, so that two who take many do not wait in a circle. */
const LOCK_DATABASES = `
  SELECT pg_advisory_xact_lock(key) FROM (
    SELECT DISTINCT hashtextextended('doorman database ' || lower(place), 0) AS key
    FROM unnest($1::text[]) AS place ORDER BY key
  ) AS places`

/** Under those locks: who has one of the databases. Index tenants_database_place. */
const FIND_DATABASE_OWNERS = `
  SELECT wanted.place, min(tenant_key::text) AS tenant_key
  FROM unnest($1::text[], $2::text[], $3::int[], $4::text[]) AS wanted (place, host, port, name)
  JOIN tenants ON (${DATABASE_PLACE}) = (lower(wanted.host), wanted.port, wanted.name)
  GROUP BY wanted.place`

/** For the CLI's list: tenants that name the same database as another one. */
const SHARED_DATABASES = `
  SELECT id FROM (
    SELECT id, count(*) OVER (PARTITION BY ${DATABASE_PLACE}) AS tenants FROM tenants
    WHERE db_host IS NOT NULL AND db_name IS NOT NULL
  ) AS placed WHERE tenants > 1`

/**
 * In a transaction of `client`: takes the database for tenant `id` until its end.
 *
 * @throws Fault CONFLICT where another tenant has it
 */
export async function requireFreeDatabase(
  client: pg.ClientBase,
  id: TenantId,
  { host, port, name }: DatabasePlace,
): Promise<void> {
  const place = placeName({ host, port, name })
  await client.query(LOCK_DATABASE, [place])
  const found = await client.query<TenantRow>(FIND_DATABASE_OWNER, [id, host, port, name])
  const [owner] = found.rows
  if (owner !== undefined && owner.id !== id) {
    throw placeTaken(`tenant ${owner.tenant_key}`, place)
  }
}

/** In a transaction of `client`: takes the databases until its end. @returns who has one already, by `placeName` */
export async function takeDatabases(
  client: pg.ClientBase,
  places: readonly DatabasePlace[],
): Promise<ReadonlyMap<string, string>> {
  if (places.length === 0) return new Map()
  const names = places.map(placeName)
  await client.query(LOCK_DATABASES, [names])
  const columns = [places.map(p => p.host), places.map(p => p.port), places.map(p => p.name)]
  const { rows } = await client.query<TenantRow>(FIND_DATABASE_OWNERS, [names, ...columns])
  return new Map(rows.map(row => [String(row.place), String(row.tenant_key)]))
}

/** As an operator reads it; the same text, the same place. */
export function placeName({ host, port, name }: DatabasePlace): string {
  return `${host.toLowerCase()}:${port}/${name}`
}

export function placeTaken(who: string, place: string): Fault {
  return publicFault(
    'CONFLICT',
    `${who} has the database ${place} already, and the two would share ` +
      'their data; allow a shared database if that is meant',
  )
}

/** Ids of tenants that name the same database as another tenant. */
export async function sharedDatabases(
  store: Pick<RegistryStore, 'query'>,
): Promise<ReadonlySet<string>> {
  return new Set((await store.query(SHARED_DATABASES, [])).map(row => String(row.id)))
}
