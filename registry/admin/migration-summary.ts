import { releaseVersions } from '../migrate/release.ts'
import type { AdminDeps } from './deps.ts'
import { listMigrationRuns, liveMigrationRun, type RunItem } from './migration-runs.ts'

/** How the fleet stands, as the Registry knows it; no tenant's database is asked. Archived tenants are not of it. */
export interface FleetSummary {
  /** Newest migration of this release. */
  readonly target: string | null
  readonly tenants: number
  readonly versions: readonly { readonly version: string | null; readonly tenants: number }[]
  /** By the runner's last word; null where none was here. */
  readonly states: readonly { readonly state: string | null; readonly tenants: number }[]
  /** Below the target, and not failed. */
  readonly laggards: TenantList
  readonly failed: TenantList
  readonly running: RunItem | null
  readonly runs: readonly RunItem[]
}

interface TenantList {
  readonly count: number
  /** The first of them, by key. */
  readonly items: readonly LaggingTenant[]
}

interface LaggingTenant {
  readonly tenant_id: string
  readonly tenant_key: string
  readonly status: string
  readonly schema_version: string | null
  readonly error: string | null
  readonly attempts: number
  readonly tried_at: string | null
}

const LISTED_MAX = 50
const RUNS_SHOWN = 10
/** Versions are short texts of whoever wrote them; a fleet has few. */
const VERSIONS_MAX = 100

const FLEET = `FROM tenants LEFT JOIN tenant_migrations m ON m.tenant_id = tenants.id
  WHERE tenants.status <> 'archived'`
/** As isBehind of migrations/status.ts; $1 the target. */
const IS_LAGGARD = `m.state IS DISTINCT FROM 'failed' AND $1::text IS NOT NULL
  AND (schema_version IS NULL OR schema_version !~ '^\\d{4}$' OR schema_version COLLATE "C" < $1)`
const VERSIONS = `
  SELECT left(schema_version, 64) AS version, count(*)::int AS tenants ${FLEET}
  GROUP BY 1 ORDER BY 1 DESC NULLS LAST LIMIT ${VERSIONS_MAX}`
const STATES = `SELECT m.state, count(*)::int AS tenants ${FLEET} GROUP BY 1 ORDER BY 1 NULLS LAST`
const listOf = (condition: string) => `
  SELECT id AS tenant_id, tenant_key, status, schema_version, m.error, coalesce(m.attempts, 0) AS attempts,
    m.started_at, count(*) OVER ()::int AS count ${FLEET} AND ${condition}
  ORDER BY tenant_key::text LIMIT ${LISTED_MAX}`

export async function fleetSummary(deps: Pick<AdminDeps, 'store'>): Promise<FleetSummary> {
  const { store } = deps
  const target = (await releaseVersions()).at(-1) ?? null
  const versions = (await store.query(VERSIONS, [])) as unknown as FleetSummary['versions']
  const states = (await store.query(STATES, [])) as unknown as FleetSummary['states']
  return {
    target,
    tenants: states.reduce((sum, { tenants }) => sum + tenants, 0),
    ...{ versions, states },
    laggards: listed(await store.query(listOf(IS_LAGGARD), [target])),
    failed: listed(await store.query(listOf(`m.state = 'failed'`), [])),
    running: await liveMigrationRun(deps),
    runs: await listMigrationRuns(deps, RUNS_SHOWN),
  }
}

function listed(rows: readonly Readonly<Record<string, unknown>>[]): TenantList {
  const items = rows.map(({ count: _, started_at: at, ...row }) => ({
    ...(row as unknown as Omit<LaggingTenant, 'tried_at'>),
    tried_at: at instanceof Date ? at.toISOString() : null,
  }))
  return { count: Number(rows[0]?.count ?? 0), items }
}
