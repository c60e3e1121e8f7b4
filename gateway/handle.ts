import type { MintedContext } from '../registry/context.ts'
import { Fault } from '../registry/lib/errors.ts'
import type { Sampler } from '../registry/lib/trace/sampler.ts'
import type { Tenant, TenantKey } from '../registry/tenant.ts'
import type { Admission } from './admission/admission.ts'
import type { Gate } from './admission/gate.ts'
import type { Tarpit } from './admission/tarpit.ts'
import { admitHead, isAboutServer } from './admit-head.ts'
import {
  type AnswerOptions,
  answerAboutServer,
  answerFault,
  answerHealthy,
  answerPreflight,
} from './answer.ts'
import type { Exchange } from './exchange.ts'
import { type Finish, type ForwardOptions, forward } from './forward.ts'
import { checkHandshake } from './handshake.ts'
import type { Holds } from './hold/holds.ts'
import { readmit } from './hold/readmit.ts'
import type { Identifier } from './identify/identify.ts'
import type { LoginGuard } from './login/guard.ts'
import { resolve, resolveNow } from './resolve.ts'
import type { Router } from './route.ts'
import type { Shedding } from './shed.ts'
import type { ContextHolder } from './sign.ts'
import type { TenantSource } from './tenant-source.ts'
import { beginTrace } from './trace.ts'
import type { Upgrader } from './upgrade.ts'

/** What the phases need; made once by main. */
export interface Pipeline {
  readonly headFieldsMax: number
  /** Which traces are kept; null: none is exported. */
  readonly sampler: Sampler | null
  readonly router: Router
  readonly identifier: Identifier
  readonly tenants: TenantSource
  readonly decoyKey: TenantKey | null
  /** Lowest schema version that the app serves; null: any. */
  readonly schemaMin: string | null
  readonly admission: Admission
  readonly gate: Gate
  readonly tarpit: Tarpit
  readonly contexts: ContextHolder
  readonly holds: Holds
  /** For a request that has waited since it was identified. */
  readonly isRevoked: (exchange: Exchange) => boolean
  readonly logins: LoginGuard
  readonly forward: ForwardOptions
  readonly answer: AnswerOptions
  readonly shedding: Shedding
  /** Called once for each exchange, when its last byte is handed over or it was cut. */
  readonly onFinished: (exchange: Exchange) => void
  readonly upgrader: Upgrader
  /** Answers what a route says that the gateway itself answers. */
  readonly answerUsage: (exchange: Exchange, finish: Finish) => void
}

/**
 * The life of a request: head → route → identify → (login limit) → resolve → admit → sign → (hold) → forward, then
 * meter and log.
 * Where token, tenant and context are all at hand (nearly always) it runs through without a promise.
 */
export function makeHandle(parts: Pipeline): (exchange: Exchange) => void {
  const pipeline: Running = {
    ...parts,
    onEnd: (ended, error) => finish(ended, error, pipeline),
    onReleased: (exchange, error) => void goOn(exchange, error, pipeline),
    onGone: exchange => finish(exchange, null, pipeline),
    onKept: (exchange, error) => refuse(exchange, error, pipeline),
  }
  return exchange => handle(exchange, pipeline)
}

interface Running extends Pipeline {
  /** Made once and not for each request. */
  readonly onEnd: Finish
  readonly onReleased: (exchange: Exchange, error: Fault | null) => void
  readonly onGone: (exchange: Exchange) => void
  readonly onKept: (exchange: Exchange, error: Fault | null) => void
}

function handle(exchange: Exchange, pipeline: Running): void {
  try {
    if (!beginExchange(exchange, pipeline)) return
    const { identifier, shedding, tenants, schemaMin } = pipeline
    if (!identifier.identifyNow(exchange)) return void handleSlowly(exchange, pipeline)
    shedding.charge(exchange)
    if (!resolveNow(exchange, tenants, schemaMin)) return void handleSlowly(exchange, pipeline)
    admit(exchange, pipeline)
  } catch (error) {
    fail(exchange, error, pipeline)
  }
}

/** The same, where a body has to be read or the Registry asked. */
async function handleSlowly(exchange: Exchange, pipeline: Running): Promise<void> {
  try {
    if (exchange.tenantRef === null) {
      await pipeline.identifier.identify(exchange)
      // A login counts from here on: while its body is awaited, whoever holds it back would shed others.
      pipeline.shedding.afterBody(exchange)
      pipeline.shedding.charge(exchange)
      await pipeline.logins.enter(exchange)
      if (exchange.reply.isDone) return finish(exchange, null, pipeline)
      exchange.identifiedAt = performance.now()
    }
    await resolve(exchange, pipeline.tenants, pipeline.decoyKey, pipeline.schemaMin)
    exchange.resolvedAt = performance.now()
    if (exchange.reply.isDone) return finish(exchange, null, pipeline)
    admit(exchange, pipeline)
  } catch (error) {
    fail(exchange, error, pipeline)
  }
}

function admit(exchange: Exchange, pipeline: Running): void {
  pipeline.shedding.afterResolve(exchange)
  pipeline.admission.enter(exchange)
  sign(exchange, pipeline)
}

/** Head and route. False where the gateway answered the request itself. */
function beginExchange(
  exchange: Exchange,
  { headFieldsMax, router, answer, onFinished, shedding, forward: { trusted }, sampler }: Pipeline,
) {
  admitHead(exchange, headFieldsMax)
  if (exchange.path === '/healthz' && (exchange.method === 'GET' || exchange.method === 'HEAD')) {
    answerHealthy(exchange, answer.cors)
    onFinished(exchange)
    return false
  }
  if (isAboutServer(exchange)) {
    answerAboutServer(exchange, answer.cors)
    onFinished(exchange)
    return false
  }
  beginTrace(exchange, trusted, sampler)
  shedding.atHead()
  exchange.route = router(exchange.method, exchange.path)
  if (
    answer.cors.isPreflight(exchange) &&
    router(exchange.head.preflightMethod as string, exchange.path)
  ) {
    answerPreflight(exchange, answer.cors)
    onFinished(exchange)
    return false
  }
  shedding.beforeIdentify(exchange)
  if (exchange.route === null) throw new Fault('ROUTE_NOT_FOUND', exchange.path)
  if (exchange.upgrade !== null) checkHandshake(exchange)
  return true
}

function sign(exchange: Exchange, pipeline: Running): void {
  if (exchange.route?.answer === 'usage') return pipeline.answerUsage(exchange, pipeline.onEnd)
  const tenant = exchange.tenant as Tenant
  const nowMs = Date.now()
  const context = pipeline.contexts.peek(tenant, nowMs)
  if (context !== undefined) return send(exchange, context, pipeline)
  pipeline.contexts.get(tenant, nowMs).then(
    minted => {
      try {
        send(exchange, minted, pipeline)
      } catch (error) {
        fail(exchange, error, pipeline)
      }
    },
    error => fail(exchange, error, pipeline),
  )
}

function send(exchange: Exchange, context: MintedContext, pipeline: Running): void {
  if (exchange.reply.isDone) return finish(exchange, null, pipeline)
  // The first time: what it waits for from here on is no matter of signing.
  if (exchange.signedAt === 0) exchange.signedAt = performance.now()
  const { holds } = pipeline
  if (holds.size > 0) {
    // Here and not earlier: from here on it counts as in flight, with nothing in between.
    const { id } = exchange.tenant as Tenant
    if (holds.isHeld(id)) {
      pipeline.gate.leave(exchange)
      return holds.wait(exchange, id, pipeline.onReleased, pipeline.onGone)
    }
  }
  if (exchange.upgrade !== null) return pipeline.upgrader(exchange, context, pipeline.onEnd)
  const { gate } = pipeline
  if (gate.enter(exchange)) return forward(exchange, context, pipeline.forward, pipeline.onEnd)
  const weight = pipeline.admission.weightOf((exchange.tenant as Tenant).id)
  gate.wait(exchange, weight, pipeline.onReleased, pipeline.onGone)
}

/** After a hold, or the line of the gate: by the row as it is now, and by no context of before. */
async function goOn(exchange: Exchange, error: Fault | null, pipeline: Running): Promise<void> {
  try {
    if (error !== null) throw error
    readmit(exchange, pipeline.isRevoked, Date.now())
    await resolve(exchange, pipeline.tenants, pipeline.decoyKey, pipeline.schemaMin)
    sign(exchange, pipeline)
  } catch (fault) {
    fail(exchange, fault, pipeline)
  }
}

function finish(exchange: Exchange, error: unknown, pipeline: Running): void {
  if (error !== null) return fail(exchange, error, pipeline)
  if (exchange.loginPass !== null) pipeline.logins.leave(exchange)
  pipeline.admission.leave(exchange)
  pipeline.gate.leave(exchange)
  const { holds } = pipeline
  if (holds.size > 0 && exchange.tenant !== null) holds.ended(exchange, exchange.tenant.id)
  pipeline.onFinished(exchange)
}

function fail(exchange: Exchange, error: unknown, pipeline: Running): void {
  const flood = pipeline.admission.floodOf(exchange, error)
  if (flood !== null && pipeline.tarpit.hold(exchange, flood, pipeline.onKept)) {
    // A stream is refused when it is at a replica already: it takes nobody's place while it waits.
    pipeline.admission.leave(exchange)
    pipeline.gate.leave(exchange)
    return
  }
  const pause = pipeline.logins.pauseBefore(exchange, error)
  if (pause === null) return refuse(exchange, error, pipeline)
  void pause.then(() => refuse(exchange, error, pipeline))
}

function refuse(exchange: Exchange, error: unknown, pipeline: Running): void {
  answerFault(exchange, error, pipeline.answer)
  finish(exchange, null, pipeline)
}
