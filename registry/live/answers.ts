import { z } from 'zod'
import { FIGURES_LENGTH } from './figures.ts'
import { TENANTS_ASKED_MAX, TOP_MAX } from './question.ts'

/*
 * What gateways and apps answer, as it is read by whoever asked. Unknown members are dropped: in a rolling restart
 * one side is newer, and nothing that is not named here may reach an operator's screen.
 */

/** Bytes of an answer in the Registry; see migrations/registry/0015_gateway_answers.sql. */
export const ANSWER_BYTES_MAX = 524_288
/** Replicas told of by one gateway. */
export const REPLICAS_MAX = 200
const POOLS_MAX = 16

const count = z.int().min(0)
const ms = z.number().min(0)
const text = z.string().max(300)

/** Of one tenant on one replica of the app, told by the app itself. */
export const appState = z.object({
  /** `config_version` of the newest details that have a pool. */
  version: count.nullable(),
  pools: z
    .array(
      z.object({
        /** False: of older details, and ends with its last lease. */
        is_current: z.boolean(),
        /** Open connections, those that are being opened or closed included. */
        size: count,
        max: count,
        ...{ connecting: count, idle: count, active: count, closing: count },
        /** Requests that wait for a connection, and those that use the pool. */
        ...{ waiting: count, leases: count },
        breaker: z.enum(['closed', 'open']),
      }),
    )
    .max(POOLS_MAX),
  /** The S3 client of the tenant's own bucket; null: none is open, or it is a shared one. */
  bucket: z.object({ leases: count, breaker: z.enum(['closed', 'open']) }).nullable(),
})
export type AppState = z.infer<typeof appState>

export const appAnswer = z.object({
  origin: text,
  /** Why there is no state, in words; null: there is. */
  problem: text.nullable(),
  state: appState.nullable(),
})
export type AppAnswer = z.infer<typeof appAnswer>

/** Of a replica of the app, told by itself. */
export const replicaState = z.object({
  /** As it calls itself, and its release; null where it was not told either. */
  name: text.nullable(),
  version: text.nullable(),
  uptime_ms: ms,
  rss_bytes: count,
  /** To all tenant databases, against the budgets of the replica and of each database server. */
  db_connections: count,
  db_connections_max: count,
  db_connections_of_busiest_server: count,
  db_connections_per_server_max: count,
  pools: count,
  pools_max: count,
  /** Requests that wait for a connection, and tenants that wait for their turn at a budget. */
  waiting: count,
  tenants_in_line: count,
  db_breakers_open: count,
  bucket_breakers_open: count,
})
export type ReplicaState = z.infer<typeof replicaState>

const tenantReplica = z.object({
  origin: text,
  /** True where nothing speaks against it now. */
  is_healthy: z.boolean(),
  /** The active checks find it ready. */
  is_ready: z.boolean(),
  /** Milliseconds that it is still ejected, or passed over because it could not be reached; 0: it is not. */
  ejected_ms: ms,
  resting_ms: ms,
  /** The tenant's own breaker on it. */
  breaker: z.enum(['closed', 'open']),
  breaker_open_ms: ms,
  /** Faults in a row of the tenant's own database or bucket there. */
  breaker_failures: count,
})

export const tenantAnswer = z.object({
  cache: z.object({
    /** `absent`: known to be of no tenant. `unknown`: not asked for of late. */
    state: z.enum(['cached', 'absent', 'unknown']),
    version: count.nullable(),
    status: text.nullable(),
    /** Since it was read from the Registry. */
    age_ms: ms.nullable(),
    /** False: read anew at the next request. */
    is_fresh: z.boolean(),
  }),
  /** Best first; null: it serves none of the tenant's requests of late. */
  replicas: z.array(tenantReplica).max(64).nullable(),
  /** Replicas beyond its standard number, because of load. */
  extra_replicas: count,
  requests_in_flight: count,
  /** To the replicas: one for each request in flight, and one for each WebSocket. */
  upstream_connections: count,
  websockets: count,
  event_streams: count,
  /** Answers beyond 1 MiB that are under way; requests in flight too. */
  long_answers: count,
  /** Null: not held. */
  hold: z
    .object({
      state: z.enum(['held', 'releasing', 'over']),
      waiting: count,
      rest_ms: ms,
    })
    .nullable(),
  /** Null: this one was not asked to ask. */
  apps: z.array(appAnswer).max(64).nullable(),
})
export type TenantAnswer = z.infer<typeof tenantAnswer>

/** Zeros at the end are left out. */
const figures = z.array(z.number().min(0)).max(FIGURES_LENGTH)

export const pulseAnswer = z.object({
  /** By tenant, those without traffic left out: steps that are not empty, as [step number, figures]. */
  tenants: z
    .array(z.object({ id: z.uuid(), steps: z.array(z.tuple([count, figures])).max(64) }))
    .max(TENANTS_ASKED_MAX),
})
export type PulseAnswer = z.infer<typeof pulseAnswer>

const replicaSaid = z.object({
  problem: text.nullable(),
  state: replicaState.nullable(),
  age_ms: ms,
})
export type ReplicaSaid = z.infer<typeof replicaSaid>

/** Of one of those that were asked to ask the replicas. */
export const replicasAnswer = z.object({
  replicas: z.array(z.object({ origin: text, app: replicaSaid })).max(REPLICAS_MAX),
})
export type ReplicasAnswer = z.infer<typeof replicasAnswer>

const seenReplica = z.object({
  origin: text,
  is_healthy: z.boolean(),
  is_ready: z.boolean(),
  ejected_ms: ms,
  resting_ms: ms,
  /** Share of the tenants, while it counts: less in its slow start. */
  weight: z.number().min(0),
  full_weight: z.number().min(0),
  requests_in_flight: count,
  websockets: count,
  connections: count,
  /** This gateway could ask it: it knows a tenant that is served there. */
  is_askable: z.boolean().default(false),
  /** What it tells of itself; null: this gateway did not ask it. */
  app: replicaSaid.nullable().default(null),
})

export const fleetAnswer = z.object({
  /** Of the last minute, the running slot included. */
  figures,
  /** Seconds that `figures` cover. */
  covers_s: z.number().positive(),
  /** Milliseconds since the process has been made. */
  uptime_ms: ms,
  requests_in_flight: count,
  requests_held: count,
  tenants_held: count,
  client_connections: count,
  client_connections_max: count,
  open_sockets: count,
  loop_delay_ms: ms,
  shed_share: z.number().min(0).max(1),
  rss_bytes: count,
  /** Share of one core since the answer before, or since the start. */
  cpu_share: z.number().min(0),
  is_ready: z.boolean(),
  registry: z.object({
    is_listener_healthy: z.boolean(),
    contact_age_ms: ms,
  }),
  caches: z.array(z.object({ name: text, size: count, max: count })).max(32),
  upstream: z.object({
    connections: count,
    /** Of one replica. */
    connections_per_replica_max: count,
    replicas: count,
  }),
  replicas: z.array(seenReplica).max(REPLICAS_MAX),
  top: z.array(z.object({ id: z.uuid(), figures })).max(TOP_MAX),
})
export type FleetAnswer = z.infer<typeof fleetAnswer>
