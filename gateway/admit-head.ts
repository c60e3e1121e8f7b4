import { Fault } from '../registry/lib/errors.ts'
import type { Exchange } from './exchange.ts'
import { cleanHeaders } from './headers.ts'
import { isSaneRequestId, makeRequestId } from './request-id.ts'
import { canonicalTarget, pathOf } from './target.ts'

/** TRACE echoes credentials; CONNECT makes a tunnel (RFC 9110 sections 9.3.6 and 9.3.8). errors.ts lists them too. */
const METHODS = new Set(['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS'])

/**
 * The first phase: cleans the header, names the request and settles the one canonical target.
 *
 * @throws Fault BAD_REQUEST, HEADERS_TOO_LARGE, METHOD_NOT_ALLOWED, TARGET_INVALID
 */
export function admitHead(exchange: Exchange, headFieldsMax: number): void {
  // Named first, so that a refusal carries an id as well.
  exchange.requestId = makeRequestId()
  const head = cleanHeaders(exchange.rawHeaders, headFieldsMax)
  exchange.head = head
  if (isSaneRequestId(head.requestId)) {
    exchange.requestId = head.requestId
    exchange.isForeignRequestId = true
  }
  if (!METHODS.has(exchange.method)) {
    throw new Fault('METHOD_NOT_ALLOWED', exchange.method)
  }
  exchange.target = isAboutServer(exchange) ? '*' : canonicalTarget(exchange.rawTarget, head.host)
  exchange.path = pathOf(exchange.target)
}

/** `OPTIONS *` asks about the server and not about a resource (RFC 9112 section 3.2.4). */
export function isAboutServer({ method, rawTarget }: Exchange): boolean {
  return rawTarget === '*' && method === 'OPTIONS'
}
