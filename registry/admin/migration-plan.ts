import { type MigrationPlan, planRun } from '../migrate/plan.ts'
import { releaseVersions } from '../migrate/release.ts'
import type { AdminDeps } from './deps.ts'
import { wrongField } from './fields.ts'
import { migrationsOf, tenantIds } from './migration-runs.ts'

export interface PlanQuery {
  readonly tenants?: readonly string[] | undefined
  readonly to?: string | undefined
  readonly include_suspended: boolean
  readonly include_dedicated: boolean
  readonly sql: boolean
}

/**
 * What a run would do where, by asking the databases; one plan at a time in a gateway, for it is a process and as many
 * connections as a run.
 *
 * @throws Fault VALIDATION_FAILED, OVERLOADED, SHUTTING_DOWN
 */
export async function planMigrations(
  deps: Pick<AdminDeps, 'store' | 'migrations'>,
  query: PlanQuery,
  signal: AbortSignal,
): Promise<MigrationPlan> {
  const { launcher } = migrationsOf(deps)
  launcher.requireOpen()
  const { to, tenants } = query
  if (to !== undefined && !(await releaseVersions()).includes(to)) {
    throw wrongField('to', 'must be a migration of this release')
  }
  const ids = tenants === undefined ? [] : await tenantIds(deps, tenants)
  const args = [
    ...ids.map(id => `--tenant-id=${id}`),
    ...(to === undefined ? [] : [`--to=${to}`]),
    ...(query.include_suspended ? [] : ['--exclude=suspended']),
    ...(query.include_dedicated ? ['--include=dedicated'] : []),
  ]
  return launcher.plan(own =>
    planRun(args, launcher.env, query.sql, AbortSignal.any([own, signal])),
  )
}
