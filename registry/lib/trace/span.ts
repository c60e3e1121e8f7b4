/** SpanKind of OTLP: who answers a request, and who makes one. */
export const SERVER = 2
export const CLIENT = 3

/** A name and its value in turn; those without a value are left out. */
export type Attributes = readonly (string | number | boolean | null | undefined)[]

/** A piece of work that has ended. Plain data: it is made on the hot path and written later. */
export interface Span {
  readonly traceId: string
  readonly spanId: string
  /** '' where the trace begins with it. */
  readonly parentSpanId: string
  /** W3C flags. */
  readonly flags: number
  readonly tracestate: string | null
  readonly kind: typeof SERVER | typeof CLIENT
  /** Few different ones: a route and never a path. */
  readonly name: string
  /** `performance.now()` milliseconds. */
  readonly startedAt: number
  readonly endedAt: number
  /** By the semantic conventions of OpenTelemetry where they have a name; without secrets and queries. */
  readonly attributes: Attributes
  readonly isError: boolean
}
