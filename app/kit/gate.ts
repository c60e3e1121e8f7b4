import { LRUCache } from 'lru-cache'
import {
  CONTEXT_HEADER,
  type ContextClaims,
  type ContextVerifier,
  decodePrincipal,
  type Principal,
  REQUEST_HEADER,
  verifyRequest,
} from '../../registry/context.ts'
import { Fault } from '../../registry/lib/errors.ts'
import type { RequestTrace, Tracer } from '../../registry/lib/trace/tracer.ts'
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
  /** null: its trace is not kept. */
  readonly trace: RequestTrace | null
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

/** A context that was verified, with its exact text. */
interface Known {
  readonly token: string
  readonly claims: ContextClaims
}

export interface GateOptions {
  readonly verifier: ContextVerifier
  readonly replayGuard: ReplayGuard
  /** Verified contexts that are kept; at most about 6 KiB each. */
  readonly contextsMax: number
  /** Tenants whose newest version is remembered; about 100 bytes each. */
  readonly versionsMax: number
  /** null: no traces are exported. */
  readonly tracer: Tracer | null
}

/** Users whose principal is kept as it was read; it comes with each of their requests. */
const PRINCIPALS_MAX = 8192
/** A longer one is read anew each time, so that all that are kept take 20 MB at most. */
const PRINCIPAL_CHARS_MAX = 1024

export function makeGate(options: GateOptions): Gate {
  const { verifier, replayGuard, tracer } = options
  const contexts = new LRUCache<string, Known>({ max: options.contextsMax })
  /** One verification per text however many requests wait for it; entries leave when it settles. */
  const verifying = new Map<string, Promise<ContextClaims>>()
  // A version that is forgotten here (more tenants than entries) reopens the door to an older context
  // only until that context expires, a minute at most.
  const versions = new LRUCache<TenantId, number>({ max: options.versionsMax })

  const principals = new LRUCache<string, Principal>({ max: PRINCIPALS_MAX })

  function knownClaims(token: string, nowMs: number): ContextClaims | undefined {
    const known = contexts.get(tailOf(token))
    if (known === undefined || known.token !== token) return undefined
    if (known.claims.exp * 1000 > nowMs) return known.claims
    contexts.delete(tailOf(token))
    throw new Fault('CONTEXT_INVALID', 'context expired')
  }

  async function verifiedClaims(token: string, nowMs: number): Promise<ContextClaims> {
    const pending = verifying.get(token)
    if (pending !== undefined) return pending
    const verification = verifier.verify(token, nowMs)
    verifying.set(token, verification)
    try {
      const claims = await verification
      contexts.set(tailOf(token), { token, claims })
      return claims
    } finally {
      verifying.delete(token)
    }
  }

  function readPrincipal(text: string): Principal {
    const known = principals.get(text)
    if (known !== undefined) return known
    // Shared by requests: none may change what the next is told.
    const principal = Object.freeze(decodePrincipal(text))
    if (text.length <= PRINCIPAL_CHARS_MAX) principals.set(text, principal)
    return principal
  }

  return {
    async admit({ method, target, rawHeaders }, nowMs) {
      const [token, header] = ourFields(rawHeaders)
      const claims = knownClaims(token, nowMs) ?? (await verifiedClaims(token, nowMs))
      const verified = verifyRequest(header, claims.mac, method, target, nowMs, readPrincipal)
      const newest = versions.get(claims.tid)
      if (newest !== undefined && claims.ver < newest) {
        throw new Fault('TENANT_UNAVAILABLE', `version ${claims.ver} is older than ${newest}`, {
          retryAfterS: 1,
        })
      }
      replayGuard.admit(claims.tid, verified.requestId, verified.issuedAtMs, nowMs)
      if (claims.ver !== newest) versions.set(claims.tid, claims.ver)
      const trace = tracer === null ? null : tracer.begin(traceparentOf(rawHeaders))
      return { claims, principal: verified.principal, requestId: verified.requestId, trace }
    },
  }
}

/**
 * What a context is looked up by before its whole text is compared: the tag of its encryption, 128 bits.
 * Every request brings the text as a new string, and to hash all of it costs 1.5 µs.
 */
function tailOf(token: string): string {
  return token.slice(-TAIL_CHARS)
}

const TAIL_CHARS = 22

/** The values of our two fields, each of which must stand exactly once. */
function ourFields(rawHeaders: readonly string[]): [context: string, request: string] {
  let context: string | undefined
  let request: string | undefined
  for (let i = 0; i + 1 < rawHeaders.length; i += 2) {
    const name = rawHeaders[i] as string
    // Both names are as long: few others have to be looked at.
    if (name.length !== CONTEXT_HEADER.length) continue
    const lower = name.toLowerCase()
    if (lower === CONTEXT_HEADER) {
      if (context !== undefined) throw notOnce(CONTEXT_HEADER)
      context = rawHeaders[i + 1]
    } else if (lower === REQUEST_HEADER) {
      if (request !== undefined) throw notOnce(REQUEST_HEADER)
      request = rawHeaders[i + 1]
    }
  }
  if (context === undefined) throw notOnce(CONTEXT_HEADER)
  if (request === undefined) throw notOnce(REQUEST_HEADER)
  return [context, request]
}

/** Of two none counts. */
function traceparentOf(rawHeaders: readonly string[]): string | undefined {
  let found: string | undefined
  for (let i = 0; i + 1 < rawHeaders.length; i += 2) {
    if (rawHeaders[i]?.toLowerCase() !== 'traceparent') continue
    if (found !== undefined) return undefined
    found = rawHeaders[i + 1]
  }
  return found
}

function notOnce(name: string): Fault {
  return new Fault('CONTEXT_INVALID', `${name} does not stand exactly once`)
}
