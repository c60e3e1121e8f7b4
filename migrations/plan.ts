import type { ListedTenant } from '../registry/tenant-list.ts'
import type { MigrationFile } from './files.ts'
import { overFleet, type Pace } from './over-fleet.ts'
import { type Retries, withRetries } from './retry.ts'
import { planOf } from './runner.ts'
import { type DatabaseAccess, reasonOf, sessionOf } from './tenant-database.ts'

export interface PlanOptions extends DatabaseAccess {
  readonly tenants: readonly ListedTenant[]
  readonly directory: string
  readonly files: readonly MigrationFile[]
  readonly to: string | null
  readonly pace: Pace
  readonly retries: Retries
}

export interface PlannedTenant {
  readonly tenant: ListedTenant
  readonly version: string | null
  readonly pending: readonly MigrationFile[]
  readonly problem: string | null
}

/** Asks every database what it has left to do. Nothing is changed, not even the table of records made. */
export async function planFleet(options: PlanOptions): Promise<readonly PlannedTenant[]> {
  const planned: PlannedTenant[] = []
  await overFleet(options.tenants, options.pace, async listed => {
    const { tenant, status } = listed
    if (status === 'archived') return
    try {
      if (tenant === null) throw new Error(listed.problem ?? 'the row cannot be read')
      const { directory, files, to } = options
      const plan = await withRetries(options.retries, () =>
        planOf({ ...sessionOf(options, tenant), directory, files, to }),
      )
      planned.push({ tenant: listed, ...plan, problem: null })
    } catch (error) {
      planned.push({ tenant: listed, version: null, pending: [], problem: reasonOf(error) })
    }
  })
  return planned.sort((a, b) => (a.tenant.key < b.tenant.key ? -1 : 1))
}

/** SQL with comments: a line per tenant that has something to do, then each file once. */
export function renderPlan(planned: readonly PlannedTenant[]): string {
  const busy = planned.filter(({ pending }) => pending.length > 0)
  const lines = planned
    .filter(({ pending, problem }) => pending.length > 0 || problem !== null)
    .map(({ tenant, version, pending, problem }) => {
      const what = problem ?? pending.map(({ name }) => name).join(', ')
      return `-- ${tenant.key}  ${version ?? '-'}  ${what}`
    })
  lines.push(`-- ${busy.length} of ${planned.length} tenant(s) have something to do`)
  const files = new Map(busy.flatMap(({ pending }) => pending.map(file => [file.name, file])))
  for (const [name, file] of [...files].sort(([a], [b]) => (a < b ? -1 : 1))) {
    const count = busy.filter(({ pending }) => pending.includes(file)).length
    lines.push('', `-- ${name}, in ${count} tenant(s)`, file.sql.trimEnd())
  }
  return `${lines.join('\n')}\n`
}
