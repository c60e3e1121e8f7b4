import { randomBytes } from 'node:crypto'
import type { World } from '../load/job.ts'

/**
 * Length of the tenant context that Doorman's requests carry: a peer that sends as many bytes pays for
 * them as well.
 */
const CONTEXT_CHARS = 1080

/**
 * Tenant id, and tenant key (for logins), each with the tenant's context: opaque text, made up front.
 * Peers cannot mint and encrypt one per minute as Doorman does; they sign it per request with an HMAC.
 */
export function makeContextMap(world: World): Map<string, string> {
  const contexts = new Map<string, string>()
  for (const { id, key } of world.tenants) {
    const context = randomBytes(CONTEXT_CHARS).toString('base64url').slice(0, CONTEXT_CHARS)
    contexts.set(id, context)
    contexts.set(key, context)
  }
  return contexts
}

/** One `key value` pair a line, as HAProxy's maps are; the Lua peer reads the same. */
export function renderContextMap(contexts: ReadonlyMap<string, string>): string {
  return [...contexts].map(([key, context]) => `${key} ${context}\n`).join('')
}

/** Key of the peers' per-request HMAC, 32 bytes. */
export const PEER_HMAC_KEY = Buffer.from(
  '6f1d0c7be2a94d53a8b1c94e0f7723d5a4c6b8e0912f3d5476889abccddeeff0',
  'hex',
)
