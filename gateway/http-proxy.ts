import { createRequire } from 'node:module'
import util from 'node:util'
import type HttpProxy from 'http-proxy'

/**
 * http-proxy, loaded with `Object.assign` where it asks for `util._extend`. It keeps what it finds there while it is loaded,
 * and uses it at each handshake: Node warns of that on stderr (DEP0060), and will not have it for ever. Both do the same,
 * and nobody else sees the change.
 */
export function loadHttpProxy(): typeof HttpProxy {
  const found = Object.getOwnPropertyDescriptor(util, '_extend')
  Object.defineProperty(util, '_extend', { value: Object.assign, configurable: true })
  try {
    return createRequire(import.meta.url)('http-proxy') as typeof HttpProxy
  } finally {
    if (found === undefined) Reflect.deleteProperty(util, '_extend')
    else Object.defineProperty(util, '_extend', found)
  }
}
