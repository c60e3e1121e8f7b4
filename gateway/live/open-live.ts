import type { TenantCache } from '../../registry/cache.ts'
import type { Log } from '../../registry/lib/log.ts'
import type { Asked, Question } from '../../registry/live/question.ts'
import { putAnswer } from '../../registry/live/questions.ts'
import type { Membership } from '../../registry/membership.ts'
import type { RegistryStore } from '../../registry/store.ts'
import type { GatewayConfig } from '../config.ts'
import type { Fleet } from '../fleet/fleet.ts'
import type { Members } from '../fleet/members.ts'
import type { Holds } from '../hold/holds.ts'
import type { TimerWheel } from '../http1/timer-wheel.ts'
import type { OpenSockets } from '../open-sockets.ts'
import type { Overload } from '../overload.ts'
import type { ContextHolder } from '../sign.ts'
import type { UpstreamClient } from '../upstream/client.ts'
import { makeQuestionClient } from '../upstream/make-client.ts'
import { Answers } from './answers.ts'
import { APP_ANSWER_MS } from './app-state.ts'
import { lookAtFleet, lookAtReplicas, makeCpuShare } from './fleet-look.ts'
import type { Pulse } from './pulse.ts'
import { ReplicaLooks } from './replica-look.ts'
import { lookAtTenant } from './tenant-look.ts'

/** What this process shows of itself; each read when it is asked for. */
export interface LiveGauges {
  readonly inFlight: () => number
  readonly clientConnections: () => number
  readonly clientConnectionsMax: number
  readonly isReady: () => boolean
  readonly isListenerHealthy: () => boolean
  readonly registryContactAgeMs: () => number
  /** Name, size, bound. */
  readonly caches: () => readonly (readonly [string, number, number])[]
}

export interface OpenLiveOptions {
  readonly config: GatewayConfig
  readonly store: RegistryStore
  readonly membership: Membership
  readonly wheel: TimerWheel
  readonly tenants: TenantCache
  readonly contexts: ContextHolder
  readonly fleet: Fleet
  readonly members: Members
  readonly holds: Holds
  readonly sockets: OpenSockets
  readonly overload: Overload
  readonly pulse: Pulse
  /** Whose connections are counted. */
  readonly traffic: UpstreamClient
  readonly gauges: LiveGauges
  /** As for the traffic of tenants' own deployments. */
  readonly ownAddresses: Parameters<typeof makeQuestionClient>[2]
  readonly log: Log
}

/** What the answers are made of. */
export interface LiveParts
  extends Pick<
    OpenLiveOptions,
    | 'tenants'
    | 'contexts'
    | 'fleet'
    | 'members'
    | 'holds'
    | 'sockets'
    | 'overload'
    | 'pulse'
    | 'traffic'
  > {
  readonly gauges: LiveGauges & { readonly upstream: { readonly max: number } }
  readonly client: UpstreamClient
  readonly ownClient: UpstreamClient
  readonly replicaLooks: ReplicaLooks
  readonly cpuShare: () => number
}

export interface Live {
  /** Answers a question of the admin API, if it comes to it in time. */
  take(asked: Asked): void
  close(): Promise<void>
}

/** The answering side of the live views (`registry/live/`). Nothing of it runs unless somebody asks. */
export function openLive(options: OpenLiveOptions): Live {
  const { config, store, membership, wheel, ownAddresses, gauges, log } = options
  const client = makeQuestionClient(config, wheel, null, APP_ANSWER_MS)
  const ownClient = makeQuestionClient(config, wheel, ownAddresses, APP_ANSWER_MS)
  const parts: LiveParts = {
    ...options,
    gauges: { ...gauges, upstream: { max: config.UPSTREAM_CONNECTIONS_MAX } },
    client,
    ownClient,
    replicaLooks: new ReplicaLooks(),
    cpuShare: makeCpuShare(),
  }
  const answers = new Answers({
    make: question => answerTo(question, parts, membership.id),
    write: (questionId, answer) => putAnswer(store, questionId, membership.id, answer),
    log,
  })
  return {
    take(asked) {
      const { question } = asked
      if (question.kind === 'replicas' && !question.via.includes(membership.id)) return
      answers.take(asked)
    },
    async close() {
      answers.close()
      await Promise.all([client.close(), ownClient.close()])
    },
  }
}

async function answerTo(question: Question, parts: LiveParts, ownId: string): Promise<unknown> {
  switch (question.kind) {
    case 'tenant':
      return lookAtTenant(parts, question.tenant, question.via.includes(ownId))
    case 'pulse':
      return parts.pulse.series(question.tenants, question.step, Date.now())
    case 'fleet':
      return lookAtFleet(parts, question.top, question.via.includes(ownId))
    case 'replicas':
      return lookAtReplicas(parts)
  }
}
