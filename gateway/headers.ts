import { Fault } from '../registry/lib/errors.ts'

/**
 * The cleaned header of a request: what goes on to the upstream, and the few fields that the gateway
 * reads itself. Made once, first (admitHead); our own fields are added last (forward).
 */
export interface Head {
  /** Name, value, …: without hop-by-hop fields, framing, and any spelling of our own names. */
  readonly forward: string[]
  host: string | null
  authorization: string | null
  tenantKey: string | null
  contentType: string | null
  contentEncoding: string | null
  origin: string | null
  /** Access-Control-Request-Method: with Origin and OPTIONS it makes a CORS preflight. */
  preflightMethod: string | null
  preflightHeaders: string | null
  requestId: string | null
  traceparent: string | null
  tracestate: string | null
  forwardedFor: string | null
  forwardedProto: string | null
  forwardedHost: string | null
  upgrade: string | null
}

/**
 * What becomes of a field by its name. `single`: a second one is refused, for peers disagree which of
 * the two counts (RFC 9112 sections 3.2 and 6.3 for Host and framing). `hop`: ends at this hop
 * (RFC 9110 section 7.6.1). `own`: one of ours, dropped in any spelling; read from the exact one.
 */
type Rule = 'hop' | 'own' | 'pass' | 'single' | 'single-hop' | 'single-own'

const RULES = new Map<string, Rule>([
  ['host', 'single'],
  ['authorization', 'single'],
  ['content-type', 'single'],
  ['content-encoding', 'pass'],
  ['origin', 'single'],
  ['access-control-request-method', 'pass'],
  ['access-control-request-headers', 'pass'],
  // The engine frames the upstream's request anew.
  ['content-length', 'single-hop'],
  ['transfer-encoding', 'single-hop'],
  ['expect', 'hop'],
  ['connection', 'hop'],
  ['keep-alive', 'hop'],
  ['proxy-connection', 'hop'],
  ['proxy-authorization', 'hop'],
  ['proxy-authenticate', 'hop'],
  ['te', 'hop'],
  ['trailer', 'hop'],
  ['upgrade', 'hop'],
  ['http2-settings', 'hop'],
  // Written by the gateway.
  ['x-tenant-key', 'single-own'],
  ['x-request-id', 'own'],
  ['traceparent', 'own'],
  ['tracestate', 'own'],
  ['forwarded', 'own'],
  ['x-real-ip', 'own'],
])

/** Every field with such a name is ours, whatever follows. */
const OWN_PREFIXES = ['x-tenant-', 'x-forwarded-', 'x-doorman-', 'x-usage']

/**
 * Cleans the fields of a request.
 *
 * The order is what HARDENING A.3 asks for: refuse duplicates, drop hop-by-hop fields, drop what
 * `Connection` lists, drop our own names; the caller adds ours afterwards, so that
 * `Connection: x-tenant-context` cannot remove them.
 *
 * @param raw name, value, name, value, … as received
 * @throws Fault BAD_REQUEST, HEADERS_TOO_LARGE
 */
export function cleanHeaders(raw: readonly string[], fieldsMax: number): Head {
  if (raw.length > 2 * fieldsMax) throw new Fault('HEADERS_TOO_LARGE', 'too many header fields')
  const head = emptyHead()
  let seen = ''
  let connection: string | null = null
  for (let i = 0; i < raw.length; i += 2) {
    const name = raw[i] as string
    const value = raw[i + 1] as string
    const lower = name.toLowerCase()
    const rule = RULES.get(lower) ?? (isOwnName(lower) ? 'own' : 'pass')
    if (rule === 'single' || rule === 'single-hop' || rule === 'single-own') {
      if (seen.includes(`|${lower}|`)) throw new Fault('BAD_REQUEST', `duplicate ${lower}`)
      seen += `|${lower}|`
    }
    if (lower === 'connection') connection = connection === null ? value : `${connection},${value}`
    else if (rule !== 'pass' || RULES.has(lower)) readField(head, lower, value)
    if (rule === 'pass' || rule === 'single') head.forward.push(name, value)
  }
  if (connection !== null) dropListed(head.forward, connection)
  return head
}

/** True for our names in any spelling: `X_Tenant_Context` reaches CGI-like apps as the same name. */
export function isOwnName(lowerName: string): boolean {
  const name = lowerName.includes('_') ? lowerName.replaceAll('_', '-') : lowerName
  if (OWN_PREFIXES.some(prefix => name.startsWith(prefix))) return true
  return RULES.get(name)?.endsWith('own') === true
}

function readField(head: Head, name: string, value: string): void {
  switch (name) {
    case 'host':
      head.host = value
      break
    case 'authorization':
      head.authorization = value
      break
    case 'x-tenant-key':
      head.tenantKey = value
      break
    case 'content-type':
      head.contentType = value
      break
    case 'content-encoding':
      head.contentEncoding = value
      break
    case 'origin':
      head.origin = value
      break
    case 'access-control-request-method':
      head.preflightMethod = value
      break
    case 'access-control-request-headers':
      head.preflightHeaders = value
      break
    case 'x-request-id':
      head.requestId = value
      break
    case 'traceparent':
      head.traceparent = value
      break
    case 'tracestate':
      head.tracestate = value
      break
    case 'x-forwarded-for':
      // A list over several fields is one list (RFC 9110 section 5.3).
      head.forwardedFor = head.forwardedFor === null ? value : `${head.forwardedFor}, ${value}`
      break
    case 'x-forwarded-proto':
      head.forwardedProto = value
      break
    case 'x-forwarded-host':
      head.forwardedHost = value
      break
    case 'upgrade':
      head.upgrade = value
      break
  }
}

/** Removes from `forward` what the Connection field lists (RFC 9110 section 7.6.1); Host stays. */
function dropListed(forward: string[], connection: string): void {
  const listed = new Set(connection.split(',').map(option => option.trim().toLowerCase()))
  listed.delete('host')
  let kept = 0
  for (let i = 0; i < forward.length; i += 2) {
    if (listed.has((forward[i] as string).toLowerCase())) continue
    forward[kept++] = forward[i] as string
    forward[kept++] = forward[i + 1] as string
  }
  forward.length = kept
}

function emptyHead(): Head {
  return {
    forward: [],
    host: null,
    authorization: null,
    tenantKey: null,
    contentType: null,
    contentEncoding: null,
    origin: null,
    preflightMethod: null,
    preflightHeaders: null,
    requestId: null,
    traceparent: null,
    tracestate: null,
    forwardedFor: null,
    forwardedProto: null,
    forwardedHost: null,
    upgrade: null,
  }
}
