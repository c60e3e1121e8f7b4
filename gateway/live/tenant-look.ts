import { Fault } from '../../registry/lib/errors.ts'
import type { AppAnswer, TenantAnswer } from '../../registry/live/answers.ts'
import type { Tenant, TenantId } from '../../registry/tenant.ts'
import type { Fleet, Home } from '../fleet/fleet.ts'
import { isHealthy } from '../fleet/replica.ts'
import type { ContextHolder } from '../sign.ts'
import type { UpstreamClient } from '../upstream/client.ts'
import { askApp } from './app-state.ts'
import type { LiveParts } from './open-live.ts'

/** Replicas that are asked for one question: more than any home but that of a tenant under a storm. */
const ASKED_MAX = 16

/** What a process knows and does for one tenant. @param asksApps its replicas are asked as well */
export async function lookAtTenant(
  parts: LiveParts,
  id: TenantId,
  asksApps: boolean,
): Promise<TenantAnswer> {
  const { tenants, fleet, sockets, holds } = parts
  const look = tenants.look(id)
  const { tenant } = look
  const apps = asksApps ? await appsOf(parts, id) : null
  const home = tenant === null ? fleet.knownHome(id) : homeOf(fleet, tenant)
  const inFlight = home?.inFlight ?? 0
  const counts = sockets.countsOf(id)
  const hold = holds.look(id)
  const nowMs = Date.now()
  return {
    cache: {
      state: look.state,
      version: tenant?.configVersion ?? null,
      status: tenant?.status ?? null,
      age_ms: look.ageMs === null ? null : Math.round(look.ageMs),
      is_fresh: look.isFresh,
    },
    replicas: home === null ? null : replicasOf(home, nowMs),
    extra_replicas: home?.spread.extra ?? 0,
    requests_in_flight: inFlight,
    upstream_connections: inFlight + counts.webSockets,
    websockets: counts.webSockets,
    event_streams: counts.eventStreams,
    long_answers: counts.longAnswers,
    hold:
      hold === null ? null : { ...hold, rest_ms: Math.round(hold.restMs), waiting: hold.waiting },
    apps,
  }
}

/** A row that is cached may be none that can be served (an `app_url` that is no URL). */
function homeOf(fleet: Fleet, tenant: Tenant): Home | null {
  try {
    return fleet.homeOf(tenant)
  } catch {
    return null
  }
}

function replicasOf(home: Home, nowMs: number): TenantAnswer['replicas'] {
  return home.replicas.map(replica => {
    const breaker = home.breakers?.get(replica)
    const openMs = Math.max(0, (breaker?.openUntilMs ?? 0) - nowMs)
    return {
      origin: replica.origin,
      is_healthy: isHealthy(replica, nowMs),
      is_ready: replica.isReady,
      ejected_ms: Math.max(0, replica.outlier.ejectedUntilMs - nowMs),
      resting_ms: Math.max(0, replica.restsUntilMs - nowMs),
      breaker: openMs > 0 ? 'open' : 'closed',
      breaker_open_ms: openMs,
      breaker_failures: breaker?.failures ?? 0,
    }
  })
}

/** Its row is read where it is not known: an operator may look at a tenant that nobody uses. */
async function appsOf(parts: LiveParts, id: TenantId): Promise<AppAnswer[]> {
  const { tenants, contexts, fleet, client, ownClient } = parts
  try {
    const tenant = await tenants.get({ by: 'id', id })
    if (tenant === null) return []
    // No context is minted for a tenant that is not served, whoever asks.
    if (tenant.status !== 'active') return [notAsked(tenant.status)]
    const { replicas } = fleet.homeOf(tenant)
    const context = await contextOf(contexts, tenant)
    const via = (isOwn: boolean): UpstreamClient => (isOwn ? ownClient : client)
    return await Promise.all(
      replicas.slice(0, ASKED_MAX).map(async ({ origin, isOwn }) => ({
        origin,
        ...(await askApp(via(isOwn), origin, 'tenant', context)),
      })),
    )
  } catch (error) {
    // Of a tenant that cannot be served no app can be asked; the code says why.
    const code = error instanceof Fault ? error.code : 'INTERNAL'
    return [notAsked(code)]
  }
}

function notAsked(why: string): AppAnswer {
  return { origin: 'none', problem: `not asked: ${why}`, state: null }
}

async function contextOf(contexts: ContextHolder, tenant: Tenant) {
  const nowMs = Date.now()
  return contexts.peek(tenant, nowMs) ?? (await contexts.get(tenant, nowMs))
}
