import { Fault } from '../registry/lib/errors.ts'
import type { Exchange } from './exchange.ts'

const METHODS = 'GET, HEAD, POST, PUT, PATCH, DELETE'
/** What a script of an allowed origin may read beyond the safelisted fields. */
const EXPOSED = 'x-request-id, retry-after, ratelimit, ratelimit-policy, content-disposition, etag'
/** Seconds that a browser may keep a preflight's answer. */
const PREFLIGHT_AGE_S = 600
/** A requested field list is echoed only if it is a plain list of tokens. */
const FIELD_LIST = /^[A-Za-z0-9\-_, ]{1,1024}$/

/** CORS (Fetch standard) for the origins of FRONTEND_URL; no wildcard, for credentials are allowed. */
export interface Cors {
  readonly isOn: boolean
  /** Header fields to add to an answer, also to a failure, so that the script can read its code. */
  fields(exchange: Exchange): readonly string[]
  isPreflight(exchange: Exchange): boolean
  /** @throws Fault FORBIDDEN for an origin that is not listed */
  preflightFields(exchange: Exchange): string[]
}

const NONE: readonly string[] = []

/** @param origins such as `https://console.example` */
export function makeCors(origins: readonly string[]): Cors {
  const allowed = new Map(
    origins.map(origin => [
      origin,
      [
        'access-control-allow-origin',
        origin,
        'access-control-allow-credentials',
        'true',
        'access-control-expose-headers',
        EXPOSED,
        'vary',
        'Origin',
      ] as const,
    ]),
  )
  return {
    isOn: allowed.size > 0,
    fields({ head }) {
      return head === null || head.origin === null ? NONE : (allowed.get(head.origin) ?? NONE)
    },
    isPreflight({ method, head }) {
      return method === 'OPTIONS' && head.origin !== null && head.preflightMethod !== null
    },
    preflightFields({ head }) {
      if (head.origin === null || !allowed.has(head.origin)) {
        throw new Fault('FORBIDDEN', 'origin not in FRONTEND_URL')
      }
      const requested = head.preflightHeaders
      return [
        'access-control-allow-methods',
        METHODS,
        'access-control-max-age',
        String(PREFLIGHT_AGE_S),
        ...(requested !== null && FIELD_LIST.test(requested)
          ? ['access-control-allow-headers', requested]
          : []),
      ]
    },
  }
}
