import { randomFillSync, randomUUID } from 'node:crypto'

/** Accepted from a client: no dot, for the request header separates its parts by dots. */
const SANE_ID = /^[A-Za-z0-9_-]{8,128}$/
/** W3C Trace Context, section 3.2.2; version ff is forbidden, as are ids of zeros. */
const TRACEPARENT =
  /^(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-([0-9a-f]{2})$/
const TRACESTATE_CHARS_MAX = 512

export function isSaneRequestId(text: string | null): text is string {
  return text !== null && SANE_ID.test(text)
}

export function makeRequestId(): string {
  return randomUUID()
}

/** The id that is signed for one attempt: see addContextHeaders. */
export function attemptIdOf(requestId: string, isForeign: boolean, attempt: number): string {
  if (isForeign) return `${requestId}~${randomHex(18)}`
  return attempt === 1 ? requestId : `${requestId}~${attempt}`
}

/** Continues the trace of the client with a span of our own, or begins one. */
export function continueTrace(
  traceparent: string | null,
  tracestate: string | null,
): { traceparent: string; tracestate: string | null } {
  const given = traceparent === null ? null : TRACEPARENT.exec(traceparent)
  const spanId = randomHex(16)
  if (given === null) {
    return { traceparent: `00-${randomHex(32)}-${spanId}-00`, tracestate: null }
  }
  const state = tracestate !== null && tracestate.length <= TRACESTATE_CHARS_MAX ? tracestate : null
  return { traceparent: `00-${given[1]}-${spanId}-${given[2]}`, tracestate: state }
}

/** Random digits are made in bulk: a call into the generator costs more than the digits. */
const POOL_BYTES = 4096
const pool = Buffer.alloc(POOL_BYTES)
let digits = ''
let digitsUsed = 0

function randomHex(count: number): string {
  if (digitsUsed + count > digits.length) {
    digits = randomFillSync(pool).toString('hex')
    digitsUsed = 0
  }
  digitsUsed += count
  return digits.slice(digitsUsed - count, digitsUsed)
}
