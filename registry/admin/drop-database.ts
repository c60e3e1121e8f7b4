import type { ClientBase } from 'pg'
import { Fault } from '../lib/errors.ts'
import { closePg } from '../lib/pg.ts'
import { connectAdmin, findHost, type SealedHost } from '../provision/hosts.ts'
import { dropObjects } from '../provision/server-objects.ts'
import type { TenantId } from '../tenant.ts'
import type { AdminDeps } from './deps.ts'
import { readRow } from './row.ts'

/** Where the tenant's database was made. */
const FIND_HOST = `
  SELECT name FROM database_hosts WHERE lower(host) = lower($1) AND port = $2 ORDER BY name LIMIT 1`
/** Another tenant that lives in the same database, or logs in as the same role. */
const OTHER = `
  SELECT tenant_key FROM tenants WHERE id <> $1 AND lower(db_host) = lower($2)
    AND coalesce(db_port, 5432) = $3 AND (db_name = $4 OR db_user = $5) LIMIT 1`

export interface DropPlan {
  readonly host: SealedHost
  readonly database: string
  readonly role: string
}

/**
 * What would be dropped with a tenant: where it is, and with which access.
 *
 * @throws Fault VALIDATION_FAILED where its server is no database host, CONFLICT where another tenant is in it
 */
export async function planDrop(deps: AdminDeps, id: TenantId): Promise<DropPlan> {
  const { row, name } = await deps.store.use(async client => {
    const row = await readRow(client, id)
    const place = [row.db_host, row.db_port ?? 5432]
    const { rows } = await client.query<{ name: string }>(FIND_HOST, place)
    return { row, name: rows[0]?.name }
  })
  const { db_host: host, db_name: database, db_user: role } = row
  if (typeof database !== 'string' || typeof role !== 'string') {
    throw new Fault('VALIDATION_FAILED', 'the tenant has no database')
  }
  if (name === undefined) {
    throw new Fault(
      'VALIDATION_FAILED',
      `${host} is no database host (host-list): its database was not made here, and stays`,
    )
  }
  const plan = { host: await findHost(deps.store, name), database, role }
  await deps.store.use(client => requireAlone(client, id, plan))
  return plan
}

/**
 * Drops database and role, where the role bears the mark of this tenant; a stranger's stay.
 *
 * @param registry the transaction that deletes the tenant
 * @returns false where they are not this tenant's
 */
export async function dropPlanned(
  deps: AdminDeps,
  registry: ClientBase,
  id: TenantId,
  plan: DropPlan,
): Promise<boolean> {
  await requireAlone(registry, id, plan)
  const { tenantCa: ca, addressPolicy } = deps
  const client = await connectAdmin(plan.host, { keyring: await deps.keyring(), ca, addressPolicy })
  try {
    return await dropObjects(client, plan, id)
  } finally {
    await closePg(client)
  }
}

async function requireAlone(
  client: ClientBase,
  id: TenantId,
  { host, database, role }: DropPlan,
): Promise<void> {
  const values = [id, host.host, host.port, database, role]
  const { rows } = await client.query<{ tenant_key: string }>(OTHER, values)
  const [other] = rows
  if (other === undefined) return
  throw new Fault('CONFLICT', `tenant ${other.tenant_key} uses the same database or role`)
}
