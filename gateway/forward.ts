import type { MintedContext } from '../registry/context.ts'
import { Fault } from '../registry/lib/errors.ts'
import { TENANT_FAULTS } from '../registry/lib/tenant-fault.ts'
import type { Tenant } from '../registry/tenant.ts'
import type { Admission } from './admission/admission.ts'
import type { Cors } from './cors.ts'
import type { Exchange, ReplyListener } from './exchange.ts'
import type { Fleet, Home, Outcome } from './fleet/fleet.ts'
import type { Replica } from './fleet/replica.ts'
import { tenantFaultOf } from './fleet/tenant-fault.ts'
import { addForwarded, type TrustedProxies } from './forwarded.ts'
import { replacesRefusals, sendLogin } from './login/refusal.ts'
import { sendRevoking } from './logout.ts'
import { attemptIdOf } from './request-id.ts'
import type { Route } from './route.ts'
import { addContextHeaders } from './sign.ts'
import { addTraceFields } from './trace.ts'
import type {
  UpstreamCall,
  UpstreamClient,
  UpstreamFault,
  UpstreamSink,
} from './upstream/client.ts'
import { cleanResponseHeaders } from './upstream/response-head.ts'
import { mayRetry, type RetryBudget } from './upstream/retry.ts'

export interface ForwardOptions {
  readonly client: UpstreamClient
  /** For tenants' own deployments: it checks the address that it connects to (HARDENING B.13). */
  readonly ownClient: UpstreamClient
  readonly fleet: Fleet
  readonly retries: RetryBudget
  readonly trusted: TrustedProxies
  readonly cors: Cors
  readonly admission: Pick<Admission, 'addFields' | 'openStream'>
  /** Refuses the exchange's token from now on, everywhere; resolves when the answer may go. */
  readonly revoke: (exchange: Exchange) => Promise<void>
  /**
   * Has `cut` called when the exchange's token or tenant may no longer be served.
   *
   * @param goAway ends an event stream when this process leaves; null: an answer that ends by itself
   * @returns to be called when the answer ended
   */
  readonly guardStream: (
    exchange: Exchange,
    cut: () => void,
    goAway: (() => void) | null,
  ) => () => void
  /** The app's answer head is there, by `exchange.status`, and the client has seen nothing of it. */
  readonly answered: (exchange: Exchange) => void
  /** A tenant's database or bucket refused what its context says: it may have changed since it was read. */
  readonly suspect: (tenant: Tenant, nowMs: number) => void
}

/**
 * From here on an answer is looked after like an event stream. Shorter ones are not worth it: a reader so
 * slow that one of them lasts is cut by the write time-out.
 */
const GUARDED_FROM_BYTES = 1024 * 1024

/** Ends an exchange: with a failure, or null when the answer is complete or the client left. */
export type Finish = (exchange: Exchange, error: unknown) => void

/** The fields that go to the replica: the client's, cleaned, then ours (HARDENING A.3). */
export function upstreamHeaders(
  exchange: Exchange,
  context: MintedContext,
  trusted: TrustedProxies,
  nowMs: number,
): string[] {
  const { head, requestId } = exchange
  const headers = head.forward.slice()
  headers.push('x-request-id', requestId)
  addTraceFields(headers, exchange)
  addForwarded(headers, exchange, trusted)
  const attemptId = attemptIdOf(requestId, exchange.isForeignRequestId, exchange.attempts)
  addContextHeaders(headers, exchange, context, attemptId, nowMs)
  return headers
}

/** Sends the exchange to a replica and its answer back, with back-pressure both ways. */
export function forward(
  exchange: Exchange,
  context: MintedContext,
  options: ForwardOptions,
  finish: Finish,
): void {
  new Forwarding(exchange, context, options, finish).attempt(null)
}

/** One exchange between client and replica; alive until `finish` is called, exactly once. */
class Forwarding implements UpstreamSink, ReplyListener {
  readonly #exchange: Exchange
  readonly #context: MintedContext
  readonly #options: ForwardOptions
  readonly #finish: Finish
  #home: Home | null = null
  #replica: Replica | null = null
  #call: UpstreamCall | null = null
  /** Set while an event stream or a long answer runs. */
  #unguard: (() => void) | null = null
  #isOver = false

  constructor(exchange: Exchange, context: MintedContext, options: ForwardOptions, finish: Finish) {
    this.#exchange = exchange
    this.#context = context
    this.#options = options
    this.#finish = finish
    exchange.reply.listener = this
  }

  /** @param failed the replica of the attempt before */
  attempt(failed: Replica | null): void {
    try {
      this.#send(failed)
    } catch (error) {
      this.#end(error)
    }
  }

  #send(failed: Replica | null): void {
    const exchange = this.#exchange
    const { client, ownClient, fleet, retries, trusted, revoke } = this.#options
    const nowMs = Date.now()
    const home = this.#home ?? this.#enter()
    const replica = fleet.choose(exchange.tenant as Tenant, home, failed, nowMs)
    retries.earn()
    this.#replica = replica
    fleet.begin(replica)
    exchange.attempts++
    exchange.upstream = replica.origin
    const request = {
      method: exchange.method,
      target: exchange.target,
      headers: upstreamHeaders(exchange, this.#context, trusted, nowMs),
      body: exchange.bufferedBody ?? exchange.body,
    }
    const via = replica.isOwn ? ownClient : client
    const route = exchange.route as Route
    const { origin } = replica
    if (route.revokes) {
      this.#call = sendRevoking(via, origin, request, this, () => revoke(exchange))
    } else if (replacesRefusals(route)) {
      this.#call = sendLogin(via, origin, request, this, status => this.#endRefused(status))
    } else this.#call = via.send(origin, request, this)
  }

  #enter(): Home {
    const { fleet } = this.#options
    const home = fleet.homeOf(this.#exchange.tenant as Tenant)
    fleet.enter(home)
    this.#home = home
    return home
  }

  onHead(status: number, raw: string[], length: number | null, isBodyless: boolean): void {
    const exchange = this.#exchange
    const { cors, admission } = this.#options
    exchange.status = status
    exchange.upstreamHeadAt = performance.now()
    this.#noteAnswer(status, raw)
    const isStream = length === null && !isBodyless && isEventStream(raw)
    const refusal = isStream ? admission.openStream(exchange) : null
    if (refusal !== null) {
      this.#call?.abort()
      return this.#end(refusal)
    }
    const headers = cleanResponseHeaders(raw, cors.isOn, exchange)
    this.#options.answered(exchange)
    headers.push('x-request-id', exchange.requestId, ...cors.fields(exchange))
    admission.addFields(headers, exchange)
    exchange.reply.writeHead(status, headers, length, isBodyless)
    exchange.answeredAt = performance.now()
    if (isStream) this.#guard(() => this.#goAway())
  }

  #noteAnswer(status: number, raw: readonly string[]): void {
    if (status < 500) return this.#note('ok')
    const reason = tenantFaultOf(raw)
    if (reason === null) return this.#note('fault')
    this.#note('tenant-fault')
    if (TENANT_FAULTS[reason].mayBeStale)
      this.#options.suspect(this.#exchange.tenant as Tenant, Date.now())
  }

  #note(outcome: Outcome): void {
    const { tenant } = this.#exchange
    const { fleet } = this.#options
    const replica = this.#replica as Replica
    fleet.note(this.#home as Home, (tenant as Tenant).id, replica, outcome, Date.now())
  }

  onBytes(chunk: Buffer): void {
    const exchange = this.#exchange
    exchange.bytesOut += chunk.length
    if (exchange.bytesOut > GUARDED_FROM_BYTES && this.#unguard === null) this.#guardLong()
    if (!exchange.reply.write(chunk)) this.#call?.pause()
  }

  onEnd(): void {
    this.#exchange.reply.end()
    this.#end(null)
  }

  onFault(fault: UpstreamFault): void {
    const { fleet, retries } = this.#options
    const exchange = this.#exchange
    const failed = this.#replica as Replica
    const outcome = outcomeOf(fault)
    if (outcome !== null) this.#note(outcome)
    const isReplayable = exchange.body === null || exchange.bufferedBody !== null || fault.isUnsent
    if (
      !exchange.reply.isHeadSent &&
      !exchange.reply.isDone &&
      mayRetry(fault, exchange.attempts, exchange.method, isReplayable) &&
      retries.spend()
    ) {
      fleet.end(failed)
      this.#replica = null
      return this.attempt(failed)
    }
    this.#end(toClientFault(fault))
  }

  onReplyDrain(): void {
    this.#call?.resume()
  }

  onReplyGone(): void {
    this.#call?.abort()
    this.#exchange.errorReason = 'the client left'
    this.#end(null)
  }

  /** It may outlive what it was admitted by. */
  #guard(goAway: (() => void) | null): void {
    this.#unguard = this.#options.guardStream(this.#exchange, () => this.#cut(), goAway)
  }

  #guardLong(): void {
    // The answer to a logout outlives its own token.
    if ((this.#exchange.route as Route).revokes) this.#unguard = () => {}
    else this.#guard(null)
  }

  /** A whole chunked body: whoever reads events drops half of one at its end (HTML section 9.2.6). */
  #goAway(): void {
    if (this.#isOver) return
    this.#call?.abort()
    this.#exchange.reply.end()
    this.#end(null)
  }

  #cut(): void {
    if (this.#isOver) return
    this.#call?.abort()
    this.#exchange.errorReason = 'cut: its token or its tenant is no longer served'
    this.#exchange.reply.abort()
    this.#end(null)
  }

  /** Answered like a login at a tenant that does not exist. */
  #endRefused(status: number): void {
    this.#exchange.status = status
    this.#exchange.upstreamHeadAt = performance.now()
    this.#note('ok')
    this.#options.answered(this.#exchange)
    this.#end(new Fault('INVALID_CREDENTIALS', `the app answered ${status}`))
  }

  #end(error: unknown): void {
    if (this.#isOver) return
    this.#isOver = true
    this.#exchange.sentAt = this.#call?.sentAt ?? 0
    this.#unguard?.()
    const { fleet } = this.#options
    if (this.#replica !== null) fleet.end(this.#replica)
    if (this.#home !== null) fleet.leave(this.#home)
    this.#exchange.reply.listener = null
    this.#finish(this.#exchange, error)
  }
}

/** Server-sent events (HTML section 9.2). Asked of answers without a length alone. */
function isEventStream(raw: readonly string[]): boolean {
  for (let i = 0; i < raw.length; i += 2) {
    if (raw[i]?.length !== 12 || raw[i]?.toLowerCase() !== 'content-type') continue
    return /^\s*text\/event-stream\b/i.test(raw[i + 1] as string)
  }
  return false
}

/**
 * What a failed attempt says of the replica; null: nothing. A full queue is a matter of load, and a
 * kept-alive connection that was reset had most likely reached its idle time-out.
 */
function outcomeOf({ kind, isReused }: UpstreamFault): Outcome | null {
  switch (kind) {
    case 'connect':
      return 'unreachable'
    case 'timeout':
    case 'protocol':
      return 'fault'
    case 'reset':
      return isReused ? null : 'fault'
    default:
      return null
  }
}

export function toClientFault({ kind, reason, cause }: UpstreamFault): Fault {
  switch (kind) {
    case 'queue':
    case 'queue-timeout':
      return new Fault('UPSTREAM_BUSY', reason)
    case 'connect':
      return new Fault('UPSTREAM_UNREACHABLE', reason)
    case 'refused':
      return cause instanceof Fault ? cause : new Fault('TENANT_CONFIG_INVALID', reason)
    case 'timeout':
      return new Fault('UPSTREAM_TIMEOUT', reason)
    case 'request-body':
      return cause instanceof Fault ? cause : new Fault('BAD_REQUEST', reason)
    default:
      return new Fault('UPSTREAM_BAD_RESPONSE', reason)
  }
}
