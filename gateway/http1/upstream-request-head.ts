import type { UpstreamRequest } from '../upstream/client.ts'
import { breaksLine, isToken, isWide, NOT_TARGET } from './field-syntax.ts'

/** How the request's body is framed: bytes, chunked, or none at all. */
export type RequestFraming = number | 'chunked' | 'none'

/**
 * The request head as one latin1 string, made from its parts alone, or null where a part would break
 * out of its place (CR, LF, NUL, a code unit above 0xFF, a framing field).
 */
export function renderRequestHead(
  request: UpstreamRequest,
  framing: RequestFraming,
  authority: string,
): string | null {
  const { method, target, headers } = request
  if (!isToken(method) || target === '' || NOT_TARGET.test(target)) return null
  let head = `${method} ${target} HTTP/1.1\r\n`
  let hasHost = false
  for (let i = 0; i + 1 < headers.length; i += 2) {
    const name = headers[i] as string
    const value = headers[i + 1] as string
    if (!isToken(name) || breaksLine(value)) return null
    // Only names of these lengths can be Host or a framing field.
    switch (name.length) {
      case 4:
        if (name.toLowerCase() === 'host') {
          if (hasHost) return null
          hasHost = true
        }
        break
      case 10:
      case 14:
      case 17:
        if (FRAMING.has(name.toLowerCase())) return null
        break
    }
    head += `${name}: ${value}\r\n`
  }
  if (!hasHost) head += `host: ${authority}\r\n`
  if (framing === 'chunked') head += 'transfer-encoding: chunked\r\n'
  else if (framing !== 'none') head += `content-length: ${framing}\r\n`
  head += '\r\n'
  return isWide(head) ? null : head
}

/** A request that carries no body still says so where its method implies one (RFC 9110 section 8.6). */
export function framingOf(request: UpstreamRequest): RequestFraming {
  const { body, method } = request
  if (body === null) {
    return method === 'POST' || method === 'PUT' || method === 'PATCH' ? 0 : 'none'
  }
  return body.length === null ? 'chunked' : body.length
}

const FRAMING = new Set(['connection', 'keep-alive', 'content-length', 'transfer-encoding'])
