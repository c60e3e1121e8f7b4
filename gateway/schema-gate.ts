import { Fault } from '../registry/lib/errors.ts'
import type { Tenant } from '../registry/tenant.ts'

/** Made once: while a fleet is migrated there may be many of them, and a stack trace each would cost more. */
const MIGRATING = new Fault('TENANT_MIGRATING', 'schema_version is below TENANT_SCHEMA_MIN')

/**
 * The tenant, unless its database is older than what the app serves. A tenant with a deployment of its own is
 * served by whatever release that runs. What is no version of our migrations is older than any.
 *
 * @param schemaMin four digits; null: no gate
 * @throws Fault TENANT_MIGRATING
 */
export function requireSchema(tenant: Tenant, schemaMin: string | null): Tenant {
  if (schemaMin === null) return tenant
  const { schemaVersion } = tenant
  if (schemaVersion !== null && schemaVersion.length === 4 && schemaVersion >= schemaMin)
    return tenant
  if (tenant.appUrl !== null) return tenant
  throw MIGRATING
}
