import type { Sampler } from '../registry/lib/trace/sampler.ts'
import {
  boundedTracestate,
  makeSpanId,
  makeTraceId,
  parseTraceparent,
  RANDOM,
  SAMPLED,
  traceparentOf,
} from '../registry/lib/trace/trace-context.ts'
import type { Exchange } from './exchange.ts'
import type { TrustedProxies } from './forwarded.ts'

/**
 * Continues the client's trace, or begins one. A client's wish that it be kept counts where its peer is a trusted
 * proxy: anybody else could fill the trace store by it, and only names the trace.
 *
 * @param sampler null: nothing is exported here, and the caller's wish is passed on
 */
export function beginTrace(
  exchange: Exchange,
  trusted: TrustedProxies,
  sampler: Sampler | null,
): void {
  const { head } = exchange
  const parent = head.traceparent === null ? null : parseTraceparent(head.traceparent)
  exchange.spanId = makeSpanId()
  if (parent === null) {
    exchange.traceId = makeTraceId()
    head.tracestate = null
    exchange.traceFlags = RANDOM
    if (sampler === null || !sampler(null, exchange.traceId)) return
    exchange.traceFlags = RANDOM | SAMPLED
    exchange.isTraceKept = true
    return
  }
  exchange.traceId = parent.traceId
  exchange.parentSpanId = parent.spanId
  exchange.traceFlags = parent.flags
  head.tracestate = boundedTracestate(head.tracestate)
  const isSampled = (parent.flags & SAMPLED) !== 0
  if (sampler === null) {
    exchange.isTraceKept = isSampled && trusted.trusts(exchange.client.address)
    return
  }
  const said = trusted.trusts(exchange.client.address) ? isSampled : null
  exchange.isTraceKept = sampler(said, parent.traceId)
  exchange.traceFlags = (parent.flags & RANDOM) | (exchange.isTraceKept ? SAMPLED : 0)
}

/** Adds the fields of the trace to those of an attempt, which is a span of its own where the trace is kept. */
export function addTraceFields(headers: string[], exchange: Exchange): void {
  const { tenant } = exchange
  if (tenant !== null && tenant.debugUntilMs !== 0) keepWhileDebugged(exchange, tenant.debugUntilMs)
  const { traceId, traceFlags, head } = exchange
  if (exchange.isTraceKept) exchange.upstreamSpanId = makeSpanId()
  const spanId = exchange.isTraceKept ? exchange.upstreamSpanId : exchange.spanId
  headers.push('traceparent', traceparentOf(traceId, spanId, traceFlags))
  if (head.tracestate !== null) headers.push('tracestate', head.tracestate)
}

/** The app follows the flag: it keeps its part of the trace as well. */
function keepWhileDebugged(exchange: Exchange, untilMs: number): void {
  if (untilMs <= Date.now()) return
  exchange.isTraceKept = true
  exchange.traceFlags |= SAMPLED
}
