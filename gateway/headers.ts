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

/** The field of Head that a name is read into. */
type Slot = Exclude<keyof Head, 'forward'>

const RULES = new Map<string, { readonly rule: Rule; readonly slot?: Slot | 'connection' }>([
  ['host', { rule: 'single', slot: 'host' }],
  ['authorization', { rule: 'single', slot: 'authorization' }],
  ['content-type', { rule: 'single', slot: 'contentType' }],
  ['content-encoding', { rule: 'pass', slot: 'contentEncoding' }],
  ['origin', { rule: 'single', slot: 'origin' }],
  ['access-control-request-method', { rule: 'pass', slot: 'preflightMethod' }],
  ['access-control-request-headers', { rule: 'pass', slot: 'preflightHeaders' }],
  // The engine frames the upstream's request anew.
  ['content-length', { rule: 'single-hop' }],
  ['transfer-encoding', { rule: 'single-hop' }],
  ['expect', { rule: 'hop' }],
  ['connection', { rule: 'hop', slot: 'connection' }],
  ['keep-alive', { rule: 'hop' }],
  ['proxy-connection', { rule: 'hop' }],
  ['proxy-authorization', { rule: 'hop' }],
  ['proxy-authenticate', { rule: 'hop' }],
  ['te', { rule: 'hop' }],
  ['trailer', { rule: 'hop' }],
  // Two of them are one list, of which peers take the first or the last (RFC 9110 section 7.8).
  ['upgrade', { rule: 'single-hop', slot: 'upgrade' }],
  ['http2-settings', { rule: 'hop' }],
  // Written by the gateway.
  ['x-tenant-key', { rule: 'single-own', slot: 'tenantKey' }],
  ['x-request-id', { rule: 'own', slot: 'requestId' }],
  ['traceparent', { rule: 'own', slot: 'traceparent' }],
  ['tracestate', { rule: 'own', slot: 'tracestate' }],
  ['x-forwarded-for', { rule: 'own', slot: 'forwardedFor' }],
  ['x-forwarded-proto', { rule: 'own', slot: 'forwardedProto' }],
  ['x-forwarded-host', { rule: 'own', slot: 'forwardedHost' }],
  ['forwarded', { rule: 'own' }],
  ['x-real-ip', { rule: 'own' }],
])

/** Every field with such a name is ours, whatever follows. */
const OWN_PREFIXES = ['x-tenant-', 'x-forwarded-', 'x-doorman-', 'x-usage']

/** What is known of a name as it was spelt. */
interface Name {
  readonly lower: string
  readonly isForwarded: boolean
  readonly slot: Slot | 'connection' | null
  /** One bit for each name of which only one field may be; else 0. */
  readonly singleBit: number
}

/** Clients spell few names: a look-up by the spelling saves folding and judging each again. */
const SPELLINGS_MAX = 4096
const SPELLING_CHARS_MAX = 64
const spellings = new Map<string, Name>()
const SINGLES = [...RULES].filter(([, { rule }]) => rule.startsWith('single')).map(([name]) => name)

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
  let seenSingles = 0
  let connection: string | null = null
  for (let i = 0; i < raw.length; i += 2) {
    const spelling = raw[i] as string
    const value = raw[i + 1] as string
    const name = spellings.get(spelling) ?? learnName(spelling)
    if (name.singleBit !== 0) {
      if ((seenSingles & name.singleBit) !== 0) {
        throw new Fault('BAD_REQUEST', `duplicate ${name.lower}`)
      }
      seenSingles |= name.singleBit
    }
    if (name.slot === 'connection') connection = join(connection, value)
    // A list over several fields is one list (RFC 9110 section 5.3).
    else if (name.slot === 'forwardedFor') head.forwardedFor = join(head.forwardedFor, value)
    else if (name.slot === 'contentEncoding') {
      head.contentEncoding = join(head.contentEncoding, value)
    } else if (name.slot === 'tracestate') head.tracestate = join(head.tracestate, value)
    else if (name.slot !== null) head[name.slot] = value
    if (name.isForwarded) head.forward.push(spelling, value)
  }
  if (connection !== null) dropListed(head.forward, connection)
  return head
}

/** True for our names in any spelling: `X_Tenant_Context` reaches CGI-like apps as the same name. */
export function isOwnName(lowerName: string): boolean {
  const name = lowerName.includes('_') ? lowerName.replaceAll('_', '-') : lowerName
  if (OWN_PREFIXES.some(prefix => name.startsWith(prefix))) return true
  return RULES.get(name)?.rule.endsWith('own') === true
}

/**
 * `Content_Length` and the like: no name that we know, and to a CGI-like app the same as one of them
 * (RFC 3875 section 4.1.18 folds both into one variable).
 */
function isLookAlike(lowerName: string): boolean {
  return lowerName.includes('_') && RULES.has(lowerName.replaceAll('_', '-'))
}

function learnName(spelling: string): Name {
  const lower = spelling.toLowerCase()
  const known = RULES.get(lower)
  const rule = known?.rule ?? (isOwnName(lower) || isLookAlike(lower) ? 'own' : 'pass')
  const single = SINGLES.indexOf(lower)
  const name = {
    lower,
    isForwarded: rule === 'pass' || rule === 'single',
    slot: known?.slot ?? null,
    singleBit: single === -1 ? 0 : 1 << single,
  }
  // An attacker who sends ever new names fills it once and then pays for each himself.
  if (spellings.size < SPELLINGS_MAX && spelling.length <= SPELLING_CHARS_MAX) {
    spellings.set(spelling, name)
  }
  return name
}

function join(list: string | null, value: string): string {
  return list === null ? value : `${list}, ${value}`
}

/** Removes from `forward` what the Connection field lists (RFC 9110 section 7.6.1); Host stays. */
export function dropListed(forward: string[], connection: string): void {
  // Nearly every client says one of these two, which list no field.
  if (connection === 'keep-alive' || connection === 'close') return
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
