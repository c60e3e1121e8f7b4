import type { SpanExporter } from './exporter.ts'
import type { Sampler } from './sampler.ts'
import { type Attributes, CLIENT, SERVER } from './span.ts'
import { makeSpanId, makeTraceId, parseTraceparent, RANDOM, SAMPLED } from './trace-context.ts'

/** The spans of one request whose trace is kept. */
export interface RequestTrace {
  readonly traceId: string
  /** Work for the request that began at `startedAt` (`performance.now()`) and has ended now. */
  child(name: string, startedAt: number, attributes: Attributes, isError: boolean): void
  /** The request itself. */
  end(name: string, startedAt: number, attributes: Attributes, isError: boolean): void
}

export interface Tracer {
  /** null: the trace is not kept. @param traceparent of the request; of two none counts */
  begin(traceparent: string | undefined): RequestTrace | null
}

/** For a server behind another that decides, whose word counts therefore. */
export function makeTracer(exporter: Pick<SpanExporter, 'add'>, sampler: Sampler): Tracer {
  return {
    begin(traceparent) {
      const parent = parseTraceparent(traceparent)
      const traceId = parent?.traceId ?? makeTraceId()
      const said = parent === null ? null : (parent.flags & SAMPLED) !== 0
      if (!sampler(said, traceId)) return null
      const flags = (parent === null ? RANDOM : parent.flags & RANDOM) | SAMPLED
      const own = { traceId, flags, tracestate: null }
      const spanId = makeSpanId()
      return {
        traceId,
        child(name, startedAt, attributes, isError) {
          exporter.add({
            ...own,
            ...{ spanId: makeSpanId(), parentSpanId: spanId, kind: CLIENT },
            ...{ name, startedAt, endedAt: performance.now(), attributes, isError },
          })
        },
        end(name, startedAt, attributes, isError) {
          exporter.add({
            ...own,
            ...{ spanId, parentSpanId: parent?.spanId ?? '', kind: SERVER },
            ...{ name, startedAt, endedAt: performance.now(), attributes, isError },
          })
        },
      }
    },
  }
}
