import type { ListedTenant } from '../registry/tenant-list.ts'

/** How many tenants may fail before the run stops. */
export type FailureLimit =
  | { readonly kind: 'count'; readonly count: number }
  | { readonly kind: 'percent'; readonly percent: number }

/** Share of the fleet that the second wave takes, after the canaries. */
const SECOND_WAVE = 0.1

export interface Wave {
  readonly name: 'canary' | 'second' | 'rest' | 'all'
  readonly tenants: readonly ListedTenant[]
}

/**
 * The order of a run: all at once, or `canaries` first, then a tenth of the fleet, then the rest. A canary is
 * chosen among active tenants, where there are any: one that nobody uses shows nothing.
 */
export function planWaves(tenants: readonly ListedTenant[], canaries: number): readonly Wave[] {
  if (canaries === 0) return [{ name: 'all', tenants }]
  const isActive = ({ status }: ListedTenant) => status === 'active'
  const ordered = [...tenants.filter(isActive), ...tenants.filter(one => !isActive(one))]
  const second = canaries + Math.ceil(tenants.length * SECOND_WAVE)
  const waves: Wave[] = [
    { name: 'canary', tenants: ordered.slice(0, canaries) },
    { name: 'second', tenants: ordered.slice(canaries, second) },
    { name: 'rest', tenants: ordered.slice(second) },
  ]
  return waves.filter(wave => wave.tenants.length > 0)
}

/** True where `failed` of `total` are more than the limit allows; a canary may not fail at all. */
export function isOver(
  limit: FailureLimit | null,
  failed: number,
  total: number,
  wave: Wave['name'],
): boolean {
  if (wave === 'canary' && failed > 0) return true
  if (limit === null) return false
  return limit.kind === 'count' ? failed > limit.count : failed * 100 > limit.percent * total
}
