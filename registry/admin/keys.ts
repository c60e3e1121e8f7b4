import { createHash, randomBytes } from 'node:crypto'
import { Fault, publicFault } from '../lib/errors.ts'
import type { Actor, Scope } from './actor.ts'
import { addAudit } from './audit.ts'
import type { AdminDeps } from './deps.ts'

/** A named key as it is listed; the key itself is shown once, when it is made. */
export interface AdminKey {
  readonly name: string
  readonly scope: Scope
  readonly created_at: string
  readonly revoked_at: string | null
}

type Deps = Pick<AdminDeps, 'store'>

const KEY_BYTES = 32
const NAME = /^[A-Za-z0-9][A-Za-z0-9._@-]{0,62}$/
/** Live ones, and the last that were revoked. */
const LISTED_MAX = 1000

const ADD = `
  INSERT INTO admin_keys (name, scope, key_hash) VALUES ($1, $2, $3)
  ON CONFLICT (name) WHERE revoked_at IS NULL DO NOTHING`
const REVOKE = 'UPDATE admin_keys SET revoked_at = now() WHERE name = $1 AND revoked_at IS NULL'
const LIST = `
  SELECT name, scope, created_at, revoked_at FROM admin_keys
  ORDER BY revoked_at DESC NULLS FIRST, name LIMIT ${LISTED_MAX}`
/** At each request with a named key. Unique index on key_hash. */
const FIND = 'SELECT name, scope FROM admin_keys WHERE key_hash = $1 AND revoked_at IS NULL'
const ANY = 'SELECT EXISTS (SELECT FROM admin_keys WHERE revoked_at IS NULL) AS any'

/**
 * Makes a key and keeps its hash.
 *
 * @returns the key, which nobody can read again
 * @throws Fault CONFLICT where a live key has this name, VALIDATION_FAILED
 */
export async function createAdminKey(
  { store }: Deps,
  actor: Actor,
  name: string,
  scope: Scope,
): Promise<string> {
  if (!NAME.test(name)) {
    const text = 'name: must be 1 to 63 of letters, digits, . _ @ and -'
    throw publicFault('VALIDATION_FAILED', text)
  }
  const key = `adk_${randomBytes(KEY_BYTES).toString('base64url')}`
  await store.transaction(async client => {
    const { rowCount } = await client.query(ADD, [name, scope, hashOf(key).toString('hex')])
    if (rowCount !== 1) {
      const text = `there is a key ${name} already`
      throw publicFault('CONFLICT', text)
    }
    await addAudit(client, { actor, action: 'admin_key.create', details: { name, scope } })
  })
  return key
}

/** From the next request on the key opens nothing. @throws Fault NOT_FOUND */
export async function revokeAdminKey({ store }: Deps, actor: Actor, name: string): Promise<void> {
  await store.transaction(async client => {
    const { rowCount } = await client.query(REVOKE, [name])
    if (rowCount !== 1) {
      const text = 'There is no such key.'
      throw new Fault('NOT_FOUND', 'no such admin key', { publicMessage: text })
    }
    await addAudit(client, { actor, action: 'admin_key.revoke', details: { name } })
  })
}

export async function listAdminKeys({ store }: Deps): Promise<readonly AdminKey[]> {
  const { rows } = await store.use(client => client.query<Record<string, unknown>>(LIST))
  return rows.map(({ name, scope, created_at, revoked_at }) => ({
    name: String(name),
    scope: scope as Scope,
    created_at: (created_at as Date).toISOString(),
    revoked_at: revoked_at instanceof Date ? revoked_at.toISOString() : null,
  }))
}

/** The live key with this hash; null where there is none. */
export async function findAdminKey(
  { store }: Deps,
  hash: Buffer,
): Promise<{ readonly name: string; readonly scope: Scope } | null> {
  const { rows } = await store.use(client =>
    client.query<{ name: string; scope: Scope }>(FIND, [hash.toString('hex')]),
  )
  return rows[0] ?? null
}

export async function hasAdminKeys({ store }: Deps): Promise<boolean> {
  const { rows } = await store.use(client => client.query<{ any: boolean }>(ANY))
  return rows[0]?.any === true
}

/** SHA-256, without salt: a key is random, so that there is nothing to guess from it. */
export function hashOf(key: string): Buffer {
  return createHash('sha256').update(key, 'utf8').digest()
}
