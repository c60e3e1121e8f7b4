import type { RegistryStore } from '../registry/store.ts'
import { eachTenant, findListedTenant, type ListedTenant } from '../registry/tenant-list.ts'
import type { Options } from './options.ts'
import { isBehind } from './status.ts'

/**
 * The tenants that a command is for, in order of their keys. Those that are named are taken as they are.
 *
 * @throws Error where one that is named does not exist
 */
export async function selectTenants(
  store: Pick<RegistryStore, 'query'>,
  options: Options,
  target: string | null,
): Promise<readonly ListedTenant[]> {
  const chosen: ListedTenant[] = []
  for (const name of new Set(options.tenants)) {
    const found = await findListedTenant(store, name)
    if (found === null) throw new Error(`no tenant ${name}`)
    if (!chosen.some(({ id }) => id === found.id)) chosen.push(found)
  }
  if (options.tenants.length > 0) return chosen
  const filter = options.withDedicated ? {} : ({ mode: 'shared' } as const)
  for await (const listed of eachTenant(store, filter)) {
    if (listed.status === 'suspended' && !options.withSuspended) continue
    const version = listed.tenant?.schemaVersion ?? null
    if (options.onlyLaggards && (listed.status === 'archived' || !isBehind(version, target)))
      continue
    chosen.push(listed)
  }
  return chosen
}

/** Those of `ids` that are there; so many that one look-up for each would take long. */
export async function selectByIds(
  store: Pick<RegistryStore, 'query'>,
  ids: readonly string[],
): Promise<readonly ListedTenant[]> {
  const wanted = new Set(ids)
  const chosen: ListedTenant[] = []
  for await (const listed of eachTenant(store)) if (wanted.has(listed.id)) chosen.push(listed)
  return chosen
}
