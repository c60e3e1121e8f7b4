import { LRUCache } from 'lru-cache'
import {
  CONTEXT_HEADER,
  type ContextClaims,
  type ContextVerifier,
  type Principal,
  REQUEST_HEADER,
  verifyRequest,
} from '../../registry/context.ts'
import { Fault } from '../../registry/lib/errors.ts'
import type { TenantId } from '../../registry/tenant.ts'
import type { ReplayGuard } from './replay-guard.ts'

/** What any HTTP framework knows of a request. */
export interface RequestFacts {
  readonly method: string
  /** The request target exactly as it came over the wire. */
  readonly target: string
  /** Name, value, name, value, … as received: Node's `headers` would hide a duplicate. */
  readonly rawHeaders: readonly string[]
}

/** A request that provably came from the gateway, for this tenant and this user. */
export interface Admitted {
  readonly claims: ContextClaims
  readonly principal: Principal
  readonly requestId: string
}

/** The first phase of every request; nothing of a request is read before it. */
export interface Gate {
  /**
   * @throws Fault CONTEXT_INVALID, opaque; the reason is for the log
   * @throws Fault TENANT_UNAVAILABLE for a context older than one seen: the gateway that sent it has
   *   not heard of the change yet, which is no fault of the user's, so it is a 503 and no 401
   */
  admit(facts: RequestFacts, nowMs: number): Promise<Admitted>
}

export interface GateOptions {
  readonly verifier: ContextVerifier
  readonly replayGuard: ReplayGuard
  /** Verified contexts that are kept; at most about 6 KiB each. */
  readonly contextsMax: number
  /** Tenants whose newest version is remembered; about 100 bytes each. */
  readonly versionsMax: number
}

export function makeGate(options: GateOptions): Gate {
  const { verifier, replayGuard } = options
  const contexts = new LRUCache<string, ContextClaims>({ max: options.contextsMax })
  /** One verification per text however many requests wait for it; entries leave when it settles. */
  const verifying = new Map<string, Promise<ContextClaims>>()
  // A version that is forgotten here (more tenants than entries) reopens the door to an older context
  // only until that context expires, a minute at most.
  const versions = new LRUCache<TenantId, number>({ max: options.versionsMax })

  async function claimsOf(token: string, nowMs: number): Promise<ContextClaims> {
    const known = contexts.get(token)
    if (known !== undefined) {
      if (known.exp * 1000 > nowMs) return known
      contexts.delete(token)
      throw new Fault('CONTEXT_INVALID', 'context expired')
    }
    const pending = verifying.get(token)
    if (pending !== undefined) return pending
    const verification = verifier.verify(token, nowMs)
    verifying.set(token, verification)
    try {
      const claims = await verification
      contexts.set(token, claims)
      return claims
    } finally {
      verifying.delete(token)
    }
  }

  return {
    async admit({ method, target, rawHeaders }, nowMs) {
      const token = onlyValue(rawHeaders, CONTEXT_HEADER)
      const header = onlyValue(rawHeaders, REQUEST_HEADER)
      const claims = await claimsOf(token, nowMs)
      const verified = verifyRequest(header, claims.mac, method, target, nowMs)
      const newest = versions.get(claims.tid)
      if (newest !== undefined && claims.ver < newest) {
        throw new Fault('TENANT_UNAVAILABLE', `version ${claims.ver} is older than ${newest}`, {
          retryAfterS: 1,
        })
      }
      replayGuard.admit(claims.tid, verified.requestId, verified.issuedAtMs, nowMs)
      versions.set(claims.tid, claims.ver)
      return { claims, principal: verified.principal, requestId: verified.requestId }
    },
  }
}

/** The value of a field that must stand exactly once. */
function onlyValue(rawHeaders: readonly string[], name: string): string {
  let value: string | undefined
  for (let i = 0; i + 1 < rawHeaders.length; i += 2) {
    if (rawHeaders[i]?.toLowerCase() !== name) continue
    if (value !== undefined) throw new Fault('CONTEXT_INVALID', `${name} stands more than once`)
    value = rawHeaders[i + 1]
  }
  if (value === undefined) throw new Fault('CONTEXT_INVALID', `${name} is missing`)
  return value
}
