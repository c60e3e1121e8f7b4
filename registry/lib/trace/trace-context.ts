import { randomHex } from '../random-hex.ts'

/** What a valid `traceparent` says. */
export interface TraceParent {
  readonly traceId: string
  /** The span of the caller. */
  readonly spanId: string
  /** `SAMPLED` and `RANDOM`; other bits mean nothing yet, and are not passed on. */
  readonly flags: number
}

/** The caller keeps the trace (Trace Context section 3.2.2.5.1). */
export const SAMPLED = 1
/** The last 7 bytes of the trace id are random (Level 2, section 3.2.2.5.2). */
export const RANDOM = 2
/** Version 00 ends behind the flags; a later one may go on behind a dash; ff is none (section 3.2.2.1). */
const TRACEPARENT =
  /^(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(.*)$/
/** A client decides its length, and every hop behind us pays for it. */
const TRACEPARENT_CHARS_MAX = 256
/** What has to be passed on at least (section 3.3.1.5). One that is longer goes as a whole. */
const TRACESTATE_CHARS_MAX = 512

/** null: it is missing or not valid, so that a trace of our own begins (section 4.3). */
export function parseTraceparent(text: string | null | undefined): TraceParent | null {
  if (text === null || text === undefined || text.length > TRACEPARENT_CHARS_MAX) return null
  const match = TRACEPARENT.exec(text)
  if (match === null) return null
  const [, traceId = '', spanId = '', flags = '', rest = ''] = match
  if (rest !== '' && (text.startsWith('00') || !rest.startsWith('-'))) return null
  return { traceId, spanId, flags: Number.parseInt(flags, 16) & (SAMPLED | RANDOM) }
}

/** `text` where it may be passed on; only beside a valid traceparent. */
export function boundedTracestate(text: string | null): string | null {
  return text !== null && text.length <= TRACESTATE_CHARS_MAX ? text : null
}

export function traceparentOf(traceId: string, spanId: string, flags: number): string {
  return `00-${traceId}-${spanId}-0${flags}`
}

/** All zeros are not valid; of the generator they come once in 2^128. */
export function makeTraceId(): string {
  return randomHex(32)
}

export function makeSpanId(): string {
  return randomHex(16)
}
