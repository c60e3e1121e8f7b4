import { randomUUID } from 'node:crypto'
import { randomHex } from '../registry/lib/random-hex.ts'

/** Accepted from a client: no dot, for the request header separates its parts by dots. */
const SANE_ID = /^[A-Za-z0-9_-]{8,128}$/

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
