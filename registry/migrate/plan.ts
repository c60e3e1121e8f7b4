import { Fault, publicFault } from '../lib/errors.ts'
import { startRunner } from './runner-process.ts'

/** What a run would do, as the tenants' databases tell now. */
export interface MigrationPlan {
  /** Asked. */
  readonly tenants: number
  /** Of them with something to do. */
  readonly pending: number
  /** Of them that could not be asked. */
  readonly problems: number
  /** Those with something to do or a problem, by key; no more than PLANNED_MAX. */
  readonly items: readonly PlannedItem[]
  readonly is_truncated: boolean
  readonly files: readonly PlannedFile[]
}

interface PlannedItem {
  readonly tenant_id: string
  readonly tenant_key: string
  readonly version: string | null
  readonly pending: readonly string[]
  readonly problem: string | null
}

interface PlannedFile {
  readonly name: string
  /** In how many tenants it would run. */
  readonly tenants: number
  /** null: not asked for, or too long. */
  readonly sql: string | null
}

/** Each database is asked: ten thousand take longer than a request may. Name some, then, or use the command line. */
const PLAN_MS_MAX = 60_000
const PLANNED_MAX = 1000
const SQL_CHARS_MAX = 512 * 1024

/** Asks each database by a runner of its own. @throws Fault OVERLOADED, INTERNAL */
export async function planRun(
  args: readonly string[],
  env: NodeJS.ProcessEnv,
  withSql: boolean,
  signal: AbortSignal,
): Promise<MigrationPlan> {
  const items: PlannedItem[] = []
  const counts = { tenants: 0, pending: 0, problems: 0 }
  const files = new Map<string, { tenants: number; sql: string | null }>()
  let sqlChars = 0
  const onLine = (line: string) => {
    const said = readLine(line)
    if (said?.event === 'plan') {
      const { id, key, version, pending, problem } = said
      counts.tenants += 1
      if (pending.length > 0) counts.pending += 1
      if (problem !== null) counts.problems += 1
      for (const name of pending) {
        const known = files.get(name) ?? { tenants: 0, sql: null }
        files.set(name, { ...known, tenants: known.tenants + 1 })
      }
      if (pending.length === 0 && problem === null) return
      if (items.length < PLANNED_MAX)
        items.push({ tenant_id: id, tenant_key: key, version, pending, problem })
    } else if (said?.event === 'file' && withSql) {
      const file = files.get(said.name)
      sqlChars += said.sql.length
      if (file !== undefined && sqlChars <= SQL_CHARS_MAX) file.sql = said.sql
    }
  }
  const all = ['--plan', '--json', ...args]
  const runner = await startRunner({ args: all, env, onLine, deadlineMs: PLAN_MS_MAX, signal })
  const { code, complaint, isLate } = await runner.ended
  if (isLate) {
    const text = `not all databases answered within ${PLAN_MS_MAX / 1000} s; plan for fewer tenants`
    throw publicFault('OVERLOADED', text)
  }
  // 1 is also the code of a plan in which a tenant could not be asked.
  if (code !== 0 && !(code === 1 && counts.problems > 0)) {
    throw new Fault('INTERNAL', `the runner ended with ${code}: ${complaint}`)
  }
  const { pending, problems } = counts
  return {
    ...counts,
    items,
    is_truncated: items.length < pending + problems,
    files: [...files].map(([name, file]) => ({ name, ...file })),
  }
}

type Said =
  | {
      readonly event: 'plan'
      readonly id: string
      readonly key: string
      readonly version: string | null
      readonly pending: readonly string[]
      readonly problem: string | null
    }
  | { readonly event: 'file'; readonly name: string; readonly sql: string }

/** Of our own release: its words are known. */
function readLine(line: string): Said | null {
  try {
    return JSON.parse(line) as Said
  } catch {
    return null
  }
}
