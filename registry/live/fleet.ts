import { z } from 'zod'
import { gatewayProcessOf } from '../membership.ts'
import type { RegistryStore } from '../store.ts'
import { type FleetAnswer, fleetAnswer, replicaState } from './answers.ts'
import { addFigures, type Figures, fieldOf, noFigures, quantileMs } from './figures.ts'
import { answerOf, gatewayItem, gatewayItemOf } from './gateway-item.ts'
import type { GatewayQuestions, Reply } from './questions.ts'
import { type ReplicasSaid, replicasSaid } from './replicas-said.ts'

/** Gateways that ask the replicas with the first question: a second one, for the first may be gone without a word. */
const VIA_MAX = 2
/** Each gateway tells more of its busiest tenants than are shown: one that is busy in all may be first in none. */
const TOP_ASKED_FACTOR = 3
const TOP_ASKED_MAX = 100
/** Processes that ended without a word are shown for so long, and at most so many of them. */
const GONE_MS = 3_600_000
const GONE_MAX = 50

const rates = {
  requests_per_s: z.number(),
  /** Shares of the requests of the last minute. */
  server_error_share: z.number(),
  client_error_share: z.number(),
  p50_ms: z.number().nullable(),
  p99_ms: z.number().nullable(),
}

const { figures: _, covers_s: __, replicas: ___, top: ____, ...load } = fleetAnswer.shape

/** The whole installation as its gateways see it now. */
export const fleetResult = z.strictObject({
  gateways: z.array(
    z.strictObject({
      ...gatewayItem.shape,
      load: z.strictObject({ ...rates, ...load }).nullable(),
    }),
  ),
  missing: z.array(z.uuid()),
  /** Ended without a word within the last hour, the latest first. */
  gone: z.array(gatewayItem),
  /** More than one: a deploy is under way, or was left half done. */
  versions: z.array(z.string()),
  app_versions: z.array(z.string()),
  replicas: z.array(
    z.strictObject({
      origin: z.string(),
      /** Gateways that have it as a member, and those that find nothing against it. */
      seen_by: z.int(),
      healthy_for: z.int(),
      ready_for: z.int(),
      ejected_by: z.int(),
      weight: z.number(),
      full_weight: z.number(),
      requests_in_flight: z.int(),
      websockets: z.int(),
      connections: z.int(),
      /** Of all gateways that answered. */
      connections_max: z.int(),
      /** Why there is no `app`, in words. */
      problem: z.string().nullable(),
      /** What the app there tells of itself; null where none was asked: no gateway knows a tenant that it serves. */
      app: replicaState.nullable(),
    }),
  ),
  /** The busiest tenants of the last minute. */
  top: z.array(
    z.strictObject({
      tenant_id: z.uuid(),
      /** Null: deleted meanwhile. */
      tenant_key: z.string().nullable(),
      name: z.string().nullable(),
      ...rates,
    }),
  ),
  totals: z.strictObject({
    ...rates,
    requests_in_flight: z.int(),
    client_connections: z.int(),
    client_connections_max: z.int(),
    open_sockets: z.int(),
    upstream_connections: z.int(),
    upstream_connections_max: z.int(),
    rss_bytes: z.int(),
    /** Of the replicas that told. */
    db_connections: z.int(),
    db_connections_max: z.int(),
  }),
})
export type FleetState = z.infer<typeof fleetResult>

const GONE = `
  SELECT id, host, pid, worker, address, version, started_at,
    (extract(epoch FROM clock_timestamp() - heartbeat_at) * 1000)::int AS age_ms
  FROM gateway_instances WHERE heartbeat_at < clock_timestamp() - $1 * interval '1 ms'
    AND heartbeat_at > clock_timestamp() - $2 * interval '1 ms'
  ORDER BY heartbeat_at DESC LIMIT ${GONE_MAX}`
const NAMES = 'SELECT id, tenant_key, name FROM tenants WHERE id = ANY ($1::uuid[])'

type Store = Pick<RegistryStore, 'query'>

/**
 * @param liveMs a gateway silent for longer is gone
 * @throws Fault REGISTRY_UNAVAILABLE, OVERLOADED
 */
export function fleetOf(
  questions: GatewayQuestions,
  store: Store,
  top: number,
  liveMs: number,
): Promise<FleetState> {
  const asked = Math.min(top * TOP_ASKED_FACTOR, TOP_ASKED_MAX)
  return questions.ask(
    `fleet ${top}`,
    gateways => ({ kind: 'fleet', top: asked, via: gateways.slice(0, VIA_MAX) }),
    async replies => {
      const read = replies.map(reply => ({ reply, answer: answerOf(reply, fleetAnswer) }))
      const said = await replicasSaid(questions, read)
      return summarize(store, read, said, top, liveMs)
    },
  )
}

interface Read {
  readonly reply: Reply
  readonly answer: FleetAnswer | null
}

async function summarize(
  store: Store,
  read: readonly Read[],
  said: ReplicasSaid,
  top: number,
  liveMs: number,
): Promise<FleetState> {
  const answers = read.flatMap(({ answer }) => answer ?? [])
  const gone = (await store.query(GONE, [liveMs, GONE_MS])).map(row =>
    gatewayItemOf({
      ...gatewayProcessOf(row),
      heartbeatAgeMs: Number(row.age_ms),
      answer: null,
    }),
  )
  const replicas = replicasOf(answers, said)
  return {
    gateways: read.map(gatewayOf),
    missing: read.flatMap(({ reply, answer }) => (answer === null ? [reply.id] : [])),
    gone,
    versions: [...new Set(read.map(({ reply }) => reply.version))].sort(),
    app_versions: [...new Set(replicas.flatMap(({ app }) => app?.version ?? []))].sort(),
    replicas,
    top: await topOf(store, answers, top),
    totals: totalsOf(answers, replicas),
  }
}

function gatewayOf({ reply, answer }: Read): FleetState['gateways'][number] {
  if (answer === null) return { ...gatewayItemOf(reply), load: null }
  const { figures, covers_s, replicas: _, top: __, ...load } = answer
  return { ...gatewayItemOf(reply), load: { ...ratesOf(figures, covers_s), ...load } }
}

function replicasOf(answers: readonly FleetAnswer[], said: ReplicasSaid): FleetState['replicas'] {
  const byOrigin = new Map<string, FleetState['replicas'][number]>()
  for (const { replicas, upstream } of answers) {
    for (const seen of replicas) {
      const sum = byOrigin.get(seen.origin) ?? {
        ...{ origin: seen.origin, seen_by: 0, healthy_for: 0, ready_for: 0, ejected_by: 0 },
        ...{ weight: 0, full_weight: 0, requests_in_flight: 0, websockets: 0 },
        ...{ connections: 0, connections_max: 0 },
        problem: said.get(seen.origin)?.problem ?? null,
        app: said.get(seen.origin)?.state ?? null,
      }
      byOrigin.set(seen.origin, sum)
      sum.seen_by += 1
      sum.healthy_for += seen.is_healthy ? 1 : 0
      sum.ready_for += seen.is_ready ? 1 : 0
      sum.ejected_by += seen.ejected_ms > 0 ? 1 : 0
      sum.weight = Math.max(sum.weight, seen.weight)
      sum.full_weight = Math.max(sum.full_weight, seen.full_weight)
      sum.requests_in_flight += seen.requests_in_flight
      sum.websockets += seen.websockets
      sum.connections += seen.connections
      sum.connections_max += upstream.connections_per_replica_max
    }
  }
  return [...byOrigin.values()].sort((a, b) => a.origin.localeCompare(b.origin))
}

async function topOf(
  store: Store,
  answers: readonly FleetAnswer[],
  top: number,
): Promise<FleetState['top']> {
  const sums = new Map<string, number[]>()
  for (const { id, figures } of answers.flatMap(answer => answer.top)) {
    const sum = sums.get(id) ?? noFigures()
    sums.set(id, sum)
    addFigures(sum, figures)
  }
  const busiest = [...sums]
    .sort(([, a], [, b]) => fieldOf(b, 'requests') - fieldOf(a, 'requests'))
    .slice(0, top)
  if (busiest.length === 0) return []
  const rows = await store.query(NAMES, [busiest.map(([id]) => id)])
  const names = new Map(rows.map(row => [String(row.id), row]))
  const coversS = longestOf(answers)
  return busiest.map(([id, figures]) => {
    const row = names.get(id)
    return {
      tenant_id: id,
      tenant_key: row === undefined ? null : String(row.tenant_key),
      name: row?.name == null ? null : String(row.name),
      ...ratesOf(figures, coversS),
    }
  })
}

function totalsOf(
  answers: readonly FleetAnswer[],
  replicas: FleetState['replicas'],
): FleetState['totals'] {
  const figures = noFigures()
  for (const answer of answers) addFigures(figures, answer.figures)
  const sum = (of: (answer: FleetAnswer) => number) =>
    answers.reduce((total, answer) => total + of(answer), 0)
  return {
    ...ratesOf(figures, longestOf(answers)),
    requests_in_flight: sum(answer => answer.requests_in_flight),
    client_connections: sum(answer => answer.client_connections),
    client_connections_max: sum(answer => answer.client_connections_max),
    open_sockets: sum(answer => answer.open_sockets),
    upstream_connections: sum(({ upstream }) => upstream.connections),
    upstream_connections_max: sum(
      ({ upstream }) => upstream.connections_per_replica_max * upstream.replicas,
    ),
    rss_bytes: sum(answer => answer.rss_bytes),
    db_connections: replicas.reduce((total, { app }) => total + (app?.db_connections ?? 0), 0),
    db_connections_max: replicas.reduce(
      (total, { app }) => total + (app?.db_connections_max ?? 0),
      0,
    ),
  }
}

function longestOf(answers: readonly FleetAnswer[]): number {
  return Math.max(1, ...answers.map(({ covers_s }) => covers_s))
}

function ratesOf(figures: Figures, coversS: number) {
  const requests = fieldOf(figures, 'requests')
  const share = (count: number) => (requests === 0 ? 0 : count / requests)
  return {
    requests_per_s: Math.round((requests / coversS) * 100) / 100,
    server_error_share: share(fieldOf(figures, 'server_errors')),
    client_error_share: share(fieldOf(figures, 'client_errors') + fieldOf(figures, 'limited')),
    p50_ms: quantileMs(figures, 0.5),
    p99_ms: quantileMs(figures, 0.99),
  }
}
