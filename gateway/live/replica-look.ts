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
/** Replicas asked for one question, those first that were asked longest ago; of the others what they said before is told. */
const ASKED_AT_ONCE_MAX = 64
/** Until what was said is told no more: a fleet of 200 is through in four questions, 20 s where somebody goes on asking. */
const KEPT_MS = 30_000
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
    const nowMs = performance.now()
    this.#forget(replicas, nowMs)
    const atMs = ({ origin }: Replica) => this.#looks.get(origin)?.atMs ?? Number.NEGATIVE_INFINITY
    const due = [...tenantsOf(replicas, parts)]
      .filter(([replica]) => nowMs - atMs(replica) >= FRESH_MS)
      .sort(([a], [b]) => (atMs(a) < atMs(b) ? -1 : 1))
      .slice(0, ASKED_AT_ONCE_MAX)
    await Promise.all(due.map(pair => this.#ask(pair, parts)))
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

  /** What is no member any more, and what was said too long ago. */
  #forget(replicas: readonly Replica[], nowMs: number): void {
    if (this.#looks.size === 0) return
    const origins = new Set(replicas.map(({ origin }) => origin))
    for (const [origin, { atMs }] of this.#looks) {
      if (!origins.has(origin) || nowMs - atMs >= KEPT_MS) this.#looks.delete(origin)
    }
  }
}

/** Those of `replicas` that can be asked, each with a tenant that has it in its home. */
export function tenantsOf(
  replicas: readonly Replica[],
  { tenants, fleet }: Pick<LiveParts, 'tenants' | 'fleet'>,
): ReadonlyMap<Replica, Tenant> {
  const found = new Map<Replica, Tenant>()
  const left = new Set(replicas)
  for (const tenant of tenants.recentlyServed(TENANTS_TRIED_MAX)) {
    if (left.size === 0) break
    for (const replica of fleet.knownHome(tenant.id)?.replicas ?? []) {
      if (left.delete(replica)) found.set(replica, tenant)
    }
  }
  return found
}
