import { createHash, createHmac, randomBytes, timingSafeEqual } from 'node:crypto'
import type { Scope } from '../admin/actor.ts'
import { addAudit } from '../admin/audit.ts'
import { FIRST_KEY, type KeyHolder } from '../admin/authenticate.ts'
import type { AdminDeps } from '../admin/deps.ts'
import { FailureLimit } from '../admin/failure-limit.ts'
import { hashOf } from '../admin/keys.ts'
import { Fault } from '../lib/errors.ts'

export interface SessionLimits {
  /** Milliseconds without a request of a person after which a session ends. */
  readonly idleMs: number
  /** Milliseconds after its sign-in at which it ends in any case. */
  readonly maxMs: number
}

export interface Session extends KeyHolder {
  /** Milliseconds that it lasts still, whatever is done. */
  readonly restMs: number
}

const ID_BYTES = 32
const ID = /^[A-Za-z0-9_-]{43}$/
/** Live ones of one key; its oldest end for a new one, and no other key's do. */
const SESSIONS_PER_KEY_MAX = 50
/** How late the last request may be noted: a row is not written with each. */
const SEEN_STEP_MS = 30_000

/** Those of a key that is revoked count as ended, and go with the rest. */
const SWEEP = `
  DELETE FROM admin_sessions WHERE id_hash IN (
    SELECT s.id_hash FROM admin_sessions s LEFT JOIN admin_keys k ON k.id = s.admin_key_id
    WHERE s.created_at < clock_timestamp() - $1 * interval '1 ms'
      OR s.seen_at < clock_timestamp() - $2 * interval '1 ms' OR k.revoked_at IS NOT NULL)`
/** $1 is the key's hash; null: the first key. Index on admin_key_id. */
const TRIM = `
  DELETE FROM admin_sessions WHERE id_hash IN (
    SELECT id_hash FROM admin_sessions
    WHERE admin_key_id IS NOT DISTINCT FROM (SELECT id FROM admin_keys WHERE key_hash = $1)
    ORDER BY created_at DESC OFFSET ${SESSIONS_PER_KEY_MAX - 1})`
const ADD_FIRST =
  'INSERT INTO admin_sessions (id_hash, is_secure, first_key_tag) VALUES ($1, $2, $3)'
const ADD_NAMED = `
  INSERT INTO admin_sessions (id_hash, is_secure, admin_key_id)
  SELECT $1, $2, id FROM admin_keys WHERE key_hash = $3 AND revoked_at IS NULL`
/** At each request of the console. Primary keys. */
const FIND = `
  SELECT s.first_key_tag, k.name, k.scope,
    (extract(epoch FROM clock_timestamp() - s.seen_at) * 1000)::int AS unseen_ms,
    (extract(epoch FROM s.created_at - clock_timestamp()) * 1000 + $4)::bigint AS rest_ms
  FROM admin_sessions s LEFT JOIN admin_keys k ON k.id = s.admin_key_id AND k.revoked_at IS NULL
  WHERE s.id_hash = $1 AND s.is_secure = $2
    AND s.seen_at > clock_timestamp() - $3 * interval '1 ms'
    AND s.created_at > clock_timestamp() - $4 * interval '1 ms'`
const SEEN = 'UPDATE admin_sessions SET seen_at = clock_timestamp() WHERE id_hash = $1'
const END = 'DELETE FROM admin_sessions WHERE id_hash = $1'

interface Row {
  readonly first_key_tag: string | null
  readonly name: string | null
  readonly scope: Scope | null
  readonly unseen_ms: number
  readonly rest_ms: string
}

/**
 * Sessions of the console. The browser holds a random id and never the key; what the session may do is what its
 * key may do at that moment, and it ends with its key.
 */
export class ConsoleSessions {
  readonly #store: AdminDeps['store']
  readonly #limits: SessionLimits
  readonly #firstHash: Buffer | null
  /** A session cannot be guessed; the look-ups cost. */
  readonly #failures = new FailureLimit()
  /** By key: each sign-in is a row of the audit, which nobody takes away. */
  readonly #signIns = new FailureLimit()

  constructor(
    { store }: Pick<AdminDeps, 'store'>,
    firstKey: string | undefined,
    limits: SessionLimits,
  ) {
    this.#store = store
    this.#limits = limits
    this.#firstHash = firstKey === undefined ? null : hashOf(firstKey)
  }

  /**
   * @param key that was found good just now, and is `holder`'s
   * @returns what the cookie is to hold
   * @throws Fault ADMIN_KEY_INVALID where the key has been revoked meanwhile, ADMIN_LIMITED, REGISTRY_UNAVAILABLE
   */
  async open(
    holder: KeyHolder,
    key: string,
    isSecure: boolean,
    requestId: string,
  ): Promise<string> {
    if (!this.#signIns.mayTry(holder.name, performance.now())) {
      throw new Fault('ADMIN_LIMITED', `too many sign-ins with the key ${holder.name}`)
    }
    this.#signIns.add(holder.name, performance.now())
    const id = randomBytes(ID_BYTES).toString('base64url')
    const isFirst = holder.name === FIRST_KEY
    const hash = hashOf(key).toString('hex')
    const [add, of] = isFirst ? [ADD_FIRST, tagOf(id, hashOf(key))] : [ADD_NAMED, hash]
    await this.#store.transaction(async client => {
      await client.query(SWEEP, [this.#limits.maxMs, this.#limits.idleMs])
      await client.query(TRIM, [isFirst ? null : hash])
      const { rowCount } = await client.query(add, [idHashOf(id), isSecure, of])
      if (rowCount !== 1) throw new Fault('ADMIN_KEY_INVALID', 'the key has just been revoked')
      await addAudit(client, { actor: { ...holder, requestId }, action: 'console.sign_in' })
    })
    return id
  }

  /**
   * @param id as the cookie has it
   * @param isPerson false: the page asks by itself, which keeps no session alive
   * @throws Fault ADMIN_SESSION_ENDED, ADMIN_LIMITED, REGISTRY_UNAVAILABLE
   */
  async find(id: string, isSecure: boolean, address: string, isPerson: boolean): Promise<Session> {
    if (!this.#failures.mayTry(address, performance.now())) {
      throw new Fault('ADMIN_LIMITED', `too many sessions that are none from ${address}`)
    }
    const { idleMs, maxMs } = this.#limits
    const found = ID.test(id)
      ? await this.#store.use(client =>
          client.query<Row>(FIND, [idHashOf(id), isSecure, idleMs, maxMs]),
        )
      : { rows: [] }
    const [row] = found.rows
    const holder = row === undefined ? null : this.#holderOf(id, row)
    if (row === undefined || holder === null) {
      this.#failures.add(address, performance.now())
      throw new Fault('ADMIN_SESSION_ENDED', 'no such session, or it has ended')
    }
    if (isPerson && row.unseen_ms > Math.min(SEEN_STEP_MS, idleMs / 10)) {
      await this.#store.use(client => client.query(SEEN, [idHashOf(id)]))
    }
    return { ...holder, restMs: Number(row.rest_ms) }
  }

  /** At every gateway, from the next request on. */
  async end(id: string, holder: KeyHolder, requestId: string): Promise<void> {
    await this.#store.transaction(async client => {
      await client.query(END, [idHashOf(id)])
      await addAudit(client, { actor: { ...holder, requestId }, action: 'console.sign_out' })
    })
  }

  #holderOf(id: string, { first_key_tag: tag, name, scope }: Row): KeyHolder | null {
    if (tag === null) return name === null || scope === null ? null : { name, scope }
    // Another gateway's first key is not ours, nor is the one of yesterday.
    if (this.#firstHash === null) return null
    const own = Buffer.from(tagOf(id, this.#firstHash))
    const theirs = Buffer.from(tag)
    const isSame = own.length === theirs.length && timingSafeEqual(own, theirs)
    return isSame ? { name: FIRST_KEY, scope: 'own' } : null
  }
}

/** By the id, which is nowhere but in the browser: the Registry's copy is no help in guessing a weak key. */
function tagOf(id: string, keyHash: Buffer): string {
  return createHmac('sha256', id).update(keyHash).digest('hex')
}

function idHashOf(id: string): string {
  return createHash('sha256').update(id, 'utf8').digest('hex')
}
