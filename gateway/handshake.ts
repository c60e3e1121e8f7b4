import { Fault } from '../registry/lib/errors.ts'
import type { Exchange } from './exchange.ts'

/** 16 bytes in base64 (RFC 6455 section 4.1): the last digit holds two bits of them. */
const KEY = /^[A-Za-z0-9+/]{21}[AQgw]==$/

/**
 * The opening handshake of a WebSocket, judged before a replica sees it: a replica that refuses what
 * the gateway took for a handshake leaves a connection that each side reads in another protocol.
 *
 * @throws Fault BAD_REQUEST, WEBSOCKET_VERSION_UNSUPPORTED
 */
export function checkHandshake({ method, head }: Exchange): void {
  // h2c and the like would start a second protocol behind our back (RFC 9113 section 3.1).
  if (method !== 'GET' || head.upgrade?.toLowerCase() !== 'websocket') {
    throw new Fault('BAD_REQUEST', 'an upgrade that is no WebSocket')
  }
  const key = onlyField(head.forward, 'sec-websocket-key')
  if (key === null || !KEY.test(key)) throw new Fault('BAD_REQUEST', 'Sec-WebSocket-Key')
  // RFC 6455 section 4.4.
  if (onlyField(head.forward, 'sec-websocket-version') !== '13') {
    throw new Fault('WEBSOCKET_VERSION_UNSUPPORTED', 'Sec-WebSocket-Version')
  }
}

/** The value of a field that is there once; else null. */
function onlyField(fields: readonly string[], lowerName: string): string | null {
  let value: string | null = null
  for (let i = 0; i < fields.length; i += 2) {
    if ((fields[i] as string).toLowerCase() !== lowerName) continue
    if (value !== null) return null
    value = fields[i + 1] as string
  }
  return value
}
