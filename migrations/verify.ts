import type { ListedTenant } from '../registry/tenant-list.ts'
import { driftOf, type Fingerprint, fingerprintOf } from './fingerprint.ts'
import { overFleet, type Pace } from './over-fleet.ts'
import { type Retries, withRetries } from './retry.ts'
import { withSession } from './session.ts'
import { type DatabaseAccess, reasonOf, sessionOf } from './tenant-database.ts'

export interface VerifyOptions extends DatabaseAccess {
  readonly tenants: readonly ListedTenant[]
  readonly pace: Pace
  readonly retries: Retries
  /** The reference: a schema, the key of a tenant among `tenants`, or null for what most of them have. */
  readonly reference: Fingerprint | string | null
}

export interface Verified {
  readonly tenant: ListedTenant
  readonly hash: string | null
  readonly drift: readonly string[]
  /** Why its schema could not be read. */
  readonly problem: string | null
}

/**
 * Reads every tenant's schema and compares it with the reference.
 *
 * @throws Error where there is no reference to compare with
 */
export async function verifyFleet(
  options: VerifyOptions,
): Promise<{ readonly reference: Fingerprint; readonly verified: readonly Verified[] }> {
  // Many tenants have few schemas: the lines are kept once for each.
  const schemas = new Map<string, Fingerprint>()
  const found: { tenant: ListedTenant; hash: string | null; problem: string | null }[] = []
  await overFleet(options.tenants, options.pace, async tenant => {
    const { status } = tenant
    if (status === 'archived') return
    try {
      const schema = await withRetries(options.retries, () => readSchema(options, tenant))
      if (!schemas.has(schema.hash)) schemas.set(schema.hash, schema)
      found.push({ tenant, hash: schema.hash, problem: null })
    } catch (error) {
      found.push({ tenant, hash: null, problem: reasonOf(error) })
    }
  })
  const hashes = found.flatMap(({ hash }) => hash ?? [])
  const { reference } = options
  const own = found.find(({ tenant }) => tenant.key === reference)?.hash
  const chosen =
    reference !== null && typeof reference === 'object'
      ? reference
      : schemas.get((reference === null ? commonest(hashes) : own) ?? '')
  if (chosen === undefined) throw new Error('there is no schema to compare with')
  const verified = found.map(({ tenant, hash, problem }) => {
    const schema = schemas.get(hash ?? '')
    return { tenant, hash, problem, drift: schema === undefined ? [] : driftOf(schema, chosen) }
  })
  verified.sort((a, b) => (a.tenant.key < b.tenant.key ? -1 : 1))
  return { reference: chosen, verified }
}

async function readSchema(access: DatabaseAccess, { tenant, problem }: ListedTenant) {
  if (tenant === null) throw new Error(problem ?? 'the row cannot be read')
  return withSession(sessionOf(access, tenant), fingerprintOf)
}

function commonest(hashes: readonly string[]): string | undefined {
  const counts = new Map<string, number>()
  for (const hash of hashes) counts.set(hash, (counts.get(hash) ?? 0) + 1)
  return [...counts].sort(([, a], [, b]) => b - a)[0]?.[0]
}
