import type { Tenant } from '../tenant.ts'
import type { ListedTenant } from '../tenant-list.ts'

/** A tenant as the CLI shows it. Field by field, so that a secret cannot slip in with a new column. */
export function viewTenant(tenant: Tenant) {
  const { db, bucket } = tenant
  return {
    id: tenant.id,
    tenant_key: tenant.key,
    name: tenant.name,
    mode: tenant.mode,
    status: tenant.status,
    config_version: tenant.configVersion,
    db_host: db.host,
    db_port: db.port,
    db_name: db.name,
    db_user: db.user,
    db_ssl_mode: db.sslMode,
    db_pool_max: db.poolMax,
    bucket_provider: bucket?.provider ?? null,
    bucket_endpoint: bucket?.endpoint ?? null,
    bucket_region: bucket?.region ?? null,
    bucket_name: bucket?.name ?? null,
    bucket_prefix: bucket?.prefix ?? null,
    token_issuer: tenant.tokenIssuer?.issuer ?? null,
    token_jwks_url: tenant.tokenIssuer?.jwksUrl ?? null,
    token_audience: tenant.tokenIssuer?.audience ?? null,
    app_url: tenant.appUrl,
    plan: tenant.plan,
    limits: JSON.stringify(tenant.limits),
    schema_version: tenant.schemaVersion,
    created_at: tenant.createdAt.toISOString(),
    updated_at: tenant.updatedAt.toISOString(),
  }
}

/** The same of a row that may not be fit to be served: then what it holds, and why it is not. */
export function viewOne(listed: ListedTenant) {
  if (listed.tenant !== null) return viewTenant(listed.tenant)
  const { id, key, name, mode, status, statusReason, configVersion, db, problem } = listed
  return {
    ...{ id, tenant_key: key, name, mode, status, status_reason: statusReason },
    ...{ config_version: configVersion, db_host: db.host, db_port: db.port, db_name: db.name },
    ...{ db_user: db.user, db_ssl_mode: db.sslMode, db_pool_max: db.poolMax, problem },
  }
}

export function viewListed(listed: ListedTenant) {
  const { id, key, name, mode, status, statusReason, db, tenant, problem } = listed
  return {
    ...{ id, tenant_key: key, name, mode, status, status_reason: statusReason },
    db_host: db.host,
    db_name: db.name,
    bucket_name: tenant?.bucket?.name ?? null,
    schema_version: tenant?.schemaVersion ?? null,
    problem,
  }
}

/** Columns as wide as their widest cell, two blanks between them. */
export function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const widths = head.map((title, i) =>
    rows.reduce((widest, row) => Math.max(widest, row[i]?.length ?? 0), title.length),
  )
  const line = (cells: readonly string[]) =>
    cells
      .map((cell, i) => cell.padEnd(widths[i] ?? 0))
      .join('  ')
      .trimEnd()
  return [head, ...rows].map(line).join('\n')
}
