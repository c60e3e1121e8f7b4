import type { ReplicaState } from '../../registry/live/answers.ts'
import type { Tenant } from '../../registry/tenant.ts'
import type { Replica } from '../fleet/replica.ts'
import { type AppSaid, askApp } from './app-state.ts'
import type { LiveParts } from './open-live.ts'

export interface ReplicaLook extends AppSaid<ReplicaState> {
  /** `performance.now()` of the answer. */
  readonly atMs: number
}

/** What a replica said serves for so long. */
const FRESH_MS = 5_000
/** Replicas asked for one question; of the others what they said before is told. */
const ASKED_AT_ONCE_MAX = 64
/** Cached tenants that are looked through for one whom a replica serves. */
const TENANTS_TRIED_MAX = 500

/**
 * What the replicas tell of themselves, by origin. Each is asked in the name of a tenant that it serves anyway: there is
 * no other proof of being the gateway, and a replica that serves nobody here has little to tell.
 */
export class ReplicaLooks {
  readonly #looks = new Map<string, ReplicaLook>()

  async of(
    replicas: readonly Replica[],
    parts: LiveParts,
  ): Promise<ReadonlyMap<string, ReplicaLook>> {
    this.#forgetOthers(replicas)
    const nowMs = performance.now()
    const due = new Set(
      replicas
        .filter(({ origin }) => nowMs - (this.#looks.get(origin)?.atMs ?? -FRESH_MS) >= FRESH_MS)
        .slice(0, ASKED_AT_ONCE_MAX),
    )
    if (due.size > 0) await Promise.all(tenantsFor(due, parts).map(pair => this.#ask(pair, parts)))
    return this.#looks
  }

  async #ask([replica, tenant]: [Replica, Tenant], parts: LiveParts): Promise<void> {
    const { contexts, client } = parts
    const nowMs = Date.now()
    try {
      const context = contexts.peek(tenant, nowMs) ?? (await contexts.get(tenant, nowMs))
      const said = await askApp(client, replica.origin, 'replica', context)
      this.#looks.set(replica.origin, { ...said, atMs: performance.now() })
    } catch {
      // The tenant's secrets do not open: that is told where the tenant is looked at.
    }
  }

  #forgetOthers(replicas: readonly Replica[]): void {
    if (this.#looks.size === 0) return
    const origins = new Set(replicas.map(({ origin }) => origin))
    for (const origin of this.#looks.keys()) if (!origins.has(origin)) this.#looks.delete(origin)
  }
}

/** For each replica a tenant that has it in its home; those without one are left out. */
function tenantsFor(due: Set<Replica>, { tenants, fleet }: LiveParts): [Replica, Tenant][] {
  const pairs: [Replica, Tenant][] = []
  for (const tenant of tenants.recentlyServed(TENANTS_TRIED_MAX)) {
    if (due.size === 0) break
    const home = fleet.knownHome(tenant.id)
    for (const replica of home?.replicas ?? []) {
      if (due.delete(replica)) pairs.push([replica, tenant])
    }
  }
  return pairs
}
