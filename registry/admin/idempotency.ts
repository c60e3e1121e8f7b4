import { createHash, randomUUID } from 'node:crypto'
import { publicFault } from '../lib/errors.ts'
import type { RegistryStore } from '../store.ts'
import type { TenantId, TenantKey } from '../tenant.ts'
import type { Actor } from './actor.ts'

/** Primary keys, and index admin_audit_tenant. */
const FIND = `
  SELECT (SELECT tenant_key::text FROM tenants WHERE id = $1) AS key,
    EXISTS (SELECT FROM tenant_tombstones WHERE id = $1)
      OR EXISTS (SELECT FROM admin_audit WHERE tenant_id = $1) AS "wasThere"`

/**
 * The id of a tenant that is to be made: random, or of the holder of the admin key and its Idempotency-Key. So
 * a request that is repeated meets what the first has made, however long ago, and nothing more is kept of it.
 */
export function newTenantId(actor: Actor, idempotencyKey: string | null): TenantId {
  return newId('tenant', actor, idempotencyKey) as TenantId
}

/** @param what is made: of one key each kind has an id of its own */
export function newId(what: string, actor: Actor, idempotencyKey: string | null): string {
  if (idempotencyKey === null) return randomUUID()
  const hash = createHash('sha256').update(`doorman ${what}\0${actor.name}\0${idempotencyKey}`)
  const hex = hash.digest('hex')
  // RFC 9562 section 5.8: version 8, of a form of one's own.
  const variant = '89ab'[Number.parseInt(hex[16] as string, 16) % 4]
  const parts = [
    ...[hex.slice(0, 8), hex.slice(8, 12), `8${hex.slice(13, 16)}`],
    ...[`${variant}${hex.slice(17, 20)}`, hex.slice(20, 32)],
  ]
  return parts.join('-')
}

/**
 * Whether the tenant of an Idempotency-Key is there.
 *
 * @throws Fault CONFLICT where the key was used for another tenant, or for one that is gone: its id, and with it
 *   its tokens, must not come to life again
 */
export async function isMadeBefore(
  store: RegistryStore,
  id: TenantId,
  tenantKey: TenantKey,
): Promise<boolean> {
  const [row] = await store.query(FIND, [id])
  if (row?.key === tenantKey) return true
  if (row?.key == null && row?.wasThere !== true) return false
  const text = 'This Idempotency-Key was used for another tenant, or for one that is gone.'
  throw publicFault('CONFLICT', text)
}
