import { type AuditItem, listAudit } from '../admin/audit.ts'
import { countPrunable, pruneAudit } from '../admin/audit-prune.ts'
import { parseTenantId, type TenantId } from '../tenant.ts'
import { CliFailure, EXIT, type ExitCode } from './failure.ts'
import { findListed, type Session } from './session.ts'
import type { Streams } from './streams.ts'
import { table } from './view.ts'

export interface AuditFlags {
  readonly by?: string
  readonly action?: string
  readonly limit?: number
  readonly json?: boolean
}

const LIMIT_DEFAULT = 50
const LIMIT_MAX = 10_000

/** Who did what, the newest first; with an id also of a tenant that is deleted. */
export async function showAudit(
  session: Session,
  name: string | undefined,
  { by: actor, action, limit = LIMIT_DEFAULT, json }: AuditFlags,
  { output }: Streams,
): Promise<ExitCode> {
  if (limit < 1 || limit > LIMIT_MAX) {
    throw new CliFailure(EXIT.usage, `--limit must be from 1 to ${LIMIT_MAX}`)
  }
  const tenantId = name === undefined ? undefined : await idOf(session, name)
  const { items } = await listAudit(session, { tenantId, actor, action, limit })
  if (json) output.write(items.map(item => `${JSON.stringify(item)}\n`).join(''))
  else {
    const head = ['AT', 'ACTOR', 'ACTION', 'OUTCOME', 'TENANT', 'CHANGED', 'REASON']
    output.write(`${table(head, items.map(cellsOf))}\n`)
  }
  return EXIT.ok
}

export interface PruneFlags {
  readonly before?: Date
  readonly keepDays?: number
  readonly dryRun?: boolean
}

/** Nothing else takes rows of the audit away. */
export async function prune(
  session: Session,
  { before, keepDays, dryRun }: PruneFlags,
  { output }: Streams,
): Promise<ExitCode> {
  if ((before === undefined) === (keepDays === undefined)) {
    throw new CliFailure(EXIT.usage, '--before or --keep-days, one of the two')
  }
  const line = before ?? new Date(Date.now() - Number(keepDays) * 86_400_000)
  const until = line.toISOString()
  if (dryRun) {
    output.write(`${await countPrunable(session, line)} rows are of before ${until}\n`)
    return EXIT.ok
  }
  const onProgress = (rows: number) => output.write(`${rows} rows so far\n`)
  const rows = await pruneAudit(session, session.actor, line, onProgress)
  output.write(`${rows} rows of before ${until} are gone\n`)
  return EXIT.ok
}

async function idOf(session: Session, name: string): Promise<TenantId> {
  return parseTenantId(name) ?? (await findListed(session, name)).id
}

function cellsOf({ at, actor, action, outcome, tenant_key, before, after, reason }: AuditItem) {
  const changed = [...new Set([...Object.keys(Object(before)), ...Object.keys(Object(after))])]
  const what = changed.length > 6 ? `${changed.slice(0, 6).join(',')},…` : changed.join(',')
  return [at, actor, action, outcome, tenant_key ?? '-', what || '-', reason ?? '-']
}
