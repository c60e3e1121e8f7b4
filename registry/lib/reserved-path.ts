/**
 * What lies below it is between gateway and app: the gateway forwards no client's request there, and the app's kit
 * answers there by itself.
 */
const RESERVED = '/.doorman'
/** Where an app tells what it holds of the tenant that the context names. */
export const STATE_PATH = '/.doorman/state'
/** Where it tells of itself, to whoever proves by any tenant's context to be the gateway. */
export const REPLICA_PATH = '/.doorman/replica'

const DOT = 0x2e

/**
 * True of every canonical path that any app could take for a reserved one: routers may ignore case, what follows a
 * name, and a slash at the end. On the hot path: one comparison.
 */
export function isReservedPath(path: string): boolean {
  return path.charCodeAt(1) === DOT && path.slice(0, RESERVED.length).toLowerCase() === RESERVED
}
