import { z } from 'zod'
import type { TenantId } from '../tenant.ts'
import { type AppAnswer, appAnswer, type TenantAnswer, tenantAnswer } from './answers.ts'
import { answerOf, gatewayItem, gatewayItemOf } from './gateway-item.ts'
import type { GatewayQuestions, Reply } from './questions.ts'

/** Gateways that ask the tenant's replicas: a second one, for the first may be gone without a word. */
const VIA_MAX = 2

/** One tenant as the gateways and its replicas have it now. */
export const tenantStateResult = z.strictObject({
  tenant_id: z.uuid(),
  /** State null: it did not answer in time. */
  gateways: z.array(
    z.strictObject({ ...gatewayItem.shape, state: tenantAnswer.omit({ apps: true }).nullable() }),
  ),
  /** Ids of the gateways that did not answer. */
  missing: z.array(z.uuid()),
  /** Its replicas, as the app there tells of this tenant. */
  apps: z.array(appAnswer),
  /** Sums over the gateways that answered. */
  totals: z.strictObject({
    gateways_cached: z.int(),
    requests_in_flight: z.int(),
    upstream_connections: z.int(),
    websockets: z.int(),
    event_streams: z.int(),
    requests_held: z.int(),
    breakers_open: z.int(),
    app_connections: z.int(),
  }),
})
export type TenantState = z.infer<typeof tenantStateResult>

/** @throws Fault REGISTRY_UNAVAILABLE, OVERLOADED */
export function tenantStateOf(questions: GatewayQuestions, id: TenantId): Promise<TenantState> {
  return questions.ask(
    `tenant ${id}`,
    gateways => ({ kind: 'tenant', tenant: id, via: gateways.slice(0, VIA_MAX) }),
    replies => summarize(id, replies),
  )
}

function summarize(id: TenantId, replies: readonly Reply[]): TenantState {
  const read = replies.map(reply => ({ reply, answer: answerOf(reply, tenantAnswer) }))
  const answers = read.flatMap(({ answer }) => answer ?? [])
  const apps = appsOf(answers)
  const sum = (of: (answer: TenantAnswer) => number) =>
    answers.reduce((total, answer) => total + of(answer), 0)
  return {
    tenant_id: id,
    gateways: read.map(({ reply, answer }) => ({
      ...gatewayItemOf(reply),
      state: stateOf(answer),
    })),
    missing: read.flatMap(({ reply, answer }) => (answer === null ? [reply.id] : [])),
    apps,
    totals: {
      gateways_cached: sum(({ cache }) => (cache.state === 'cached' ? 1 : 0)),
      requests_in_flight: sum(answer => answer.requests_in_flight),
      upstream_connections: sum(answer => answer.upstream_connections),
      websockets: sum(answer => answer.websockets),
      event_streams: sum(answer => answer.event_streams),
      requests_held: sum(({ hold }) => hold?.waiting ?? 0),
      breakers_open: sum(
        ({ replicas }) => (replicas ?? []).filter(({ breaker }) => breaker === 'open').length,
      ),
      app_connections: apps
        .flatMap(({ state }) => state?.pools ?? [])
        .reduce((total, { size }) => total + size, 0),
    },
  }
}

function stateOf(answer: TenantAnswer | null): Omit<TenantAnswer, 'apps'> | null {
  if (answer === null) return null
  const { apps: _, ...state } = answer
  return state
}

/** By origin; where two gateways asked the same replica, what one of them was told. */
function appsOf(answers: readonly TenantAnswer[]): AppAnswer[] {
  const byOrigin = new Map<string, AppAnswer>()
  for (const app of answers.flatMap(({ apps }) => apps ?? [])) {
    if (byOrigin.get(app.origin)?.state == null) byOrigin.set(app.origin, app)
  }
  return [...byOrigin.values()].sort((a, b) => a.origin.localeCompare(b.origin))
}
