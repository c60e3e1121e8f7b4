import type { LimitLayer } from './limits.ts'
import type { RegistryStore } from './store.ts'

/** A plan as a gateway needs it. */
export interface Plan {
  readonly code: string
  readonly limits: LimitLayer
  readonly weight: number
}

/** More than anybody sells; a gateway keeps all of them. */
export const PLANS_MAX = 1000

/** Read whole by every gateway, at its start and after each notice. */
const READ_ALL = `SELECT code, limits, weight FROM plans ORDER BY code LIMIT ${PLANS_MAX}`

/** @throws Fault REGISTRY_UNAVAILABLE */
export async function readPlans(store: Pick<RegistryStore, 'query'>): Promise<readonly Plan[]> {
  const rows = await store.query(READ_ALL, [])
  return rows.map(({ code, limits, weight }) => ({
    code: String(code),
    limits: limits as LimitLayer,
    weight: Number(weight),
  }))
}
