import { sharedDatabases } from '../database-place.ts'
import type { Tenant, TenantStatus } from '../tenant.ts'
import { eachTenant } from '../tenant-list.ts'
import { EXIT, type ExitCode } from './failure.ts'
import { findListed, type Session } from './session.ts'
import type { Streams } from './streams.ts'
import { table, viewListed, viewOne } from './view.ts'

export async function listTenants(
  session: Session,
  flags: { mode?: string; status?: string; json?: boolean },
  { output }: Streams,
): Promise<ExitCode> {
  const filter = {
    ...(flags.mode !== undefined && { mode: flags.mode as Tenant['mode'] }),
    ...(flags.status !== undefined && { status: flags.status as TenantStatus }),
  }
  const sharing = await sharedDatabases(session.store)
  const rows = []
  for await (const listed of eachTenant(session.store, filter)) {
    rows.push({ ...viewListed(listed), shares_database: sharing.has(listed.id) })
  }
  if (flags.json) {
    output.write(`${JSON.stringify(rows, null, 2)}\n`)
    return EXIT.ok
  }
  const head = ['KEY', 'ID', 'MODE', 'STATUS', 'DATABASE', 'BUCKET', 'SCHEMA', 'NOTE']
  const cells = rows.map(row => [
    ...[row.tenant_key, row.id, row.mode, row.status],
    row.db_name === null ? '-' : `${row.db_host ?? '-'}/${row.db_name}`,
    ...[row.bucket_name ?? '-', row.schema_version ?? '-'],
    [row.shares_database ? 'shares its database' : null, row.problem ?? row.status_reason]
      .filter(note => note !== null)
      .join('; '),
  ])
  output.write(`${table(head, cells)}\n`)
  return EXIT.ok
}

export async function show(
  session: Session,
  name: string,
  flags: { json?: boolean },
  { output }: Streams,
): Promise<ExitCode> {
  const view = viewOne(await findListed(session, name))
  const rows = Object.entries(view).map(([field, value]) => [field, String(value ?? '-')])
  output.write(
    flags.json ? `${JSON.stringify(view, null, 2)}\n` : `${table(['FIELD', 'VALUE'], rows)}\n`,
  )
  return EXIT.ok
}
