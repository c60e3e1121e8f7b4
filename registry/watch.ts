import type { Client, Notification } from 'pg'
import { type HoldNotice, parseHoldNotice } from './hold-notice.ts'
import { withDeadline } from './lib/deadline.ts'
import type { Log } from './lib/log.ts'
import { closePg, connectPg, destroyPg, type PgTarget, parsePgUrl } from './lib/pg.ts'
import { type Asked, parseQuestion } from './live/question.ts'
import { parseTenantId } from './tenant.ts'
import type { ChangeCursor, ChangeOp, ChangeSet, TenantChange } from './tenant-changes.ts'
import type { Revocation } from './token-id.ts'

export interface TenantWatchOptions {
  /** TENANT_REGISTRY_DB_URL. PostgreSQL itself: LISTEN does not work through a transaction pooler. */
  readonly url: string
  readonly ca?: string
  /** The catch-up, on the pool: it works while the listener's connection is stuck. */
  readonly changedSince: (cursor: ChangeCursor | null) => Promise<ChangeSet>
  readonly log: Log
  /** A change of one tenant. The same one may be told twice. */
  readonly onChange: (change: TenantChange) => void
  /** Changes may have been missed that cannot be named. Also once at the start. */
  readonly onGap: () => void
  /** A token was revoked. The same one may be told twice. */
  readonly onRevocation: (revocation: Revocation) => void
  /**
   * Revocations may have been missed: all have to be read. Where that fails the watch tries again, and does
   * not count as healthy by it. Also once at the start.
   */
  readonly onRevocationGap: () => Promise<void>
  /** A tenant is to be held, or no longer. The same may be told many times, and in any order. */
  readonly onHold?: (notice: HoldNotice) => void
  /** The admin API asks. What is missed is not told again: nobody waits for an answer that late. */
  readonly onQuestion?: (asked: Asked) => void
  /** A plan was made, changed or deleted: all are read anew. Not told of what happens while the listener is cut: see onGap. */
  readonly onPlans?: () => void
  /** A gateway waits for parts of limits that others may not need. Missed, the next heartbeat does the same. */
  readonly onShareWanted?: (instance: string) => void
  readonly onHealth?: (isHealthy: boolean) => void
  readonly heartbeatMs?: number
  /** How long a heartbeat, or any other statement of the listener, may take. */
  readonly answerMs?: number
  readonly pollMs?: number
  readonly backoffMaxMs?: number
}

const TENANTS_CHANNEL = 'tenant_changed'
const TOKENS_CHANNEL = 'token_revoked'
const HOLDS_CHANNEL = 'tenant_held'
const QUESTIONS_CHANNEL = 'gateway_asked'
const PLANS_CHANNEL = 'plan_changed'
const SHARES_CHANNEL = 'share_wanted'
const CHANNELS = [
  ...[TENANTS_CHANNEL, TOKENS_CHANNEL, HOLDS_CHANNEL, QUESTIONS_CHANNEL],
  ...[PLANS_CHANNEL, SHARES_CHANNEL],
]
const BACKOFF_MIN_MS = 100
/** Tombstones are kept for 30 days; long before that, a catch-up from an old cursor is not trusted. */
const CURSOR_AGE_MAX_MS = 24 * 60 * 60 * 1000
/** Which server this is: another one, or a promoted standby, may have lost what we have seen. */
const WHICH_CLUSTER = `
  SELECT s.system_identifier || '/' || c.timeline_id AS cluster
  FROM pg_control_system() s, pg_control_checkpoint() c`
/** The same where the role may not see it: promotions are then noticed by transaction ids alone. */
const CLUSTER_UNKNOWN = 'unknown'

/**
 * Tells of every change of a tenant, of every revoked token and of every hold: within milliseconds by LISTEN on a
 * connection of its own, and by a gap-free catch-up every `pollMs` and after each reconnect. LISTEN dies silently
 * (brianc/node-postgres#3003), so the same session answers a heartbeat; one that is late costs it its socket.
 */
export class TenantWatch {
  readonly #options: TenantWatchOptions
  readonly #target: PgTarget
  readonly #heartbeatMs: number
  readonly #answerMs: number
  readonly #pollMs: number
  readonly #backoffMaxMs: number

  #client: Client | null = null
  #isStopped = true
  #isHealthy = false
  readonly #counts = {
    notice: 0,
    'catch-up': 0,
    'catch-up-failed': 0,
    gap: 0,
    'listener-lost': 0,
  }
  #lastContactAtMs: number | null = null
  #cursor: ChangeCursor | null = null
  #cursorAtMs = 0
  #cluster: string | null = null
  #catchUp: Promise<void> | null = null
  #listening: Promise<void> = Promise.resolve()
  #polling: Promise<void> = Promise.resolve()
  #wake = new AbortController()

  constructor(options: TenantWatchOptions) {
    this.#options = options
    this.#target = parsePgUrl(options.url, options.ca)
    this.#heartbeatMs = options.heartbeatMs ?? 5_000
    this.#answerMs = options.answerMs ?? 3_000
    this.#pollMs = options.pollMs ?? 5_000
    this.#backoffMaxMs = options.backoffMaxMs ?? 5_000
  }

  /** True while the listener listens, answers, and has caught up. */
  get isHealthy(): boolean {
    return this.#isHealthy
  }

  /** What it met since it was made; only ever grows. */
  get counts(): Readonly<Record<string, number>> {
    return this.#counts
  }

  /** `Date.now()` of the last answer of the Registry to the listener or the poll; null: none yet. */
  get lastContactAtMs(): number | null {
    return this.#lastContactAtMs
  }

  /** Returns at once; a Registry that is down is tried again until `stop`. */
  start(): void {
    if (!this.#isStopped) return
    this.#isStopped = false
    this.#wake = new AbortController()
    this.#listening = this.#listenForever()
    this.#polling = this.#pollForever()
  }

  /** Leaves no connection and no timer; no callback is called afterwards. */
  async stop(): Promise<void> {
    this.#isStopped = true
    this.#wake.abort()
    if (this.#client !== null) destroyPg(this.#client)
    await Promise.all([this.#listening, this.#polling])
  }

  async #listenForever(): Promise<void> {
    let failures = 0
    while (!this.#isStopped) {
      try {
        await this.#listenOnce(() => {
          failures = 0
        })
      } catch (error) {
        failures += 1
        if (!this.#isStopped) {
          this.#counts['listener-lost'] += 1
          this.#options.log.warn({ reason: messageOf(error), failures }, 'Registry listener lost')
        }
      }
      this.#setHealthy(false)
      const ceiling = Math.min(this.#backoffMaxMs, BACKOFF_MIN_MS * 2 ** Math.min(failures, 16))
      // Half fixed, half random: a fleet of gateways must not come back in step.
      await this.#pause(ceiling / 2 + (Math.random() * ceiling) / 2)
    }
  }

  /** One connection, from connect to its loss, which it throws. */
  async #listenOnce(onListening: () => void): Promise<void> {
    let lose: (error: Error) => void = () => {}
    const lost = new Promise<never>((_, reject) => {
      lose = reject
    })
    lost.catch(() => {})
    const limits = {
      connectTimeoutMs: this.#answerMs,
      statementTimeoutMs: 0,
      applicationName: 'doorman-watch',
    }
    const client = await connectPg(this.#target, limits, lose)
    try {
      if (this.#isStopped) return
      this.#client = client
      client.on('end', () => lose(new Error('connection ended')))
      client.on('notification', message => this.#onNotification(message))
      const ask = (text: string) =>
        Promise.race([withDeadline(client.query(text), this.#answerMs, late), lost])

      // Listen first, then catch up: what comes between is told twice rather than never.
      await ask(CHANNELS.map(channel => `LISTEN ${channel}`).join('; '))
      const cluster = await this.#whichCluster(ask)
      if (this.#cluster !== null && this.#cluster !== cluster) this.#cursor = null
      this.#cluster = cluster
      await this.#catchUpAfterNow()
      onListening()
      this.#setHealthy(true)
      for (;;) {
        this.#lastContactAtMs = Date.now()
        await Promise.race([this.#pause(this.#heartbeatMs), lost])
        if (this.#isStopped) return
        await ask('SELECT 1')
      }
    } finally {
      this.#client = null
      // A goodbye only where the peer is likely to hear it.
      if (this.#isStopped) await closePg(client)
      else destroyPg(client)
    }
  }

  async #whichCluster(ask: (text: string) => Promise<{ rows: unknown[] }>): Promise<string> {
    try {
      const { rows } = await ask(WHICH_CLUSTER)
      return String((rows[0] as { cluster: unknown }).cluster)
    } catch (error) {
      if ((error as { code?: string }).code === '42501') return CLUSTER_UNKNOWN
      throw error
    }
  }

  #onNotification({ channel, payload }: Notification): void {
    if (this.#isStopped) return
    this.#lastContactAtMs = Date.now()
    this.#counts.notice += 1
    if (channel === TOKENS_CHANNEL) {
      const revocation = parseRevocation(payload)
      if (revocation !== null) return this.#options.onRevocation(revocation)
    } else if (channel === TENANTS_CHANNEL) {
      const change = parseNotice(payload)
      if (change !== null) return this.#options.onChange(change)
    } else if (channel === HOLDS_CHANNEL) {
      const notice = parseHoldNotice(payload)
      if (notice !== null) return this.#options.onHold?.(notice)
    } else if (channel === QUESTIONS_CHANNEL) {
      const asked = parseQuestion(payload)
      if (asked !== null) return this.#options.onQuestion?.(asked)
    } else if (channel === PLANS_CHANNEL) {
      return this.#options.onPlans?.()
    } else if (channel === SHARES_CHANNEL) {
      return this.#options.onShareWanted?.(payload ?? '')
    } else return
    this.#options.log.warn({ channel }, 'a notice that cannot be read')
  }

  async #pollForever(): Promise<void> {
    let isDown = false
    for (;;) {
      await this.#pause(this.#pollMs)
      if (this.#isStopped) return
      try {
        await this.#catchUpOnce()
        isDown = false
      } catch (error) {
        if (!isDown) this.#options.log.warn({ reason: messageOf(error) }, 'Registry poll failed')
        isDown = true
      }
    }
  }

  /** A catch-up that begins after this call: one under way may have read before. */
  async #catchUpAfterNow(): Promise<void> {
    await this.#catchUp?.catch(() => {})
    await this.#catchUpOnce()
  }

  #catchUpOnce(): Promise<void> {
    this.#catchUp ??= this.#countedCatchUp().finally(() => {
      this.#catchUp = null
    })
    return this.#catchUp
  }

  async #countedCatchUp(): Promise<void> {
    try {
      await this.#readChanges()
      this.#counts['catch-up'] += 1
    } catch (error) {
      if (!this.#isStopped) this.#counts['catch-up-failed'] += 1
      throw error
    }
  }

  async #readChanges(): Promise<void> {
    const isTooOld = Date.now() - this.#cursorAtMs > CURSOR_AGE_MAX_MS
    const startedAtMs = Date.now()
    const from = isTooOld ? null : this.#cursor
    const cluster = this.#cluster
    const { onChange, onGap, onRevocation, onRevocationGap, onHold, log, changedSince } =
      this.#options
    const read = await changedSince(from)
    const { cursor } = read
    if (this.#isStopped) return
    this.#lastContactAtMs = Date.now()
    if (read.isGap || read.isRevocationGap) this.#counts.gap += 1
    if (read.isGap) {
      log.info('tenant changes may have been missed, all tenants are read anew')
      onGap()
    }
    for (const change of read.changes) onChange(change)
    for (const revocation of read.revocations) onRevocation(revocation)
    // Behind the changes: who is released goes on with the row as it is now.
    for (const notice of read.holds) onHold?.(notice)
    if (read.isRevocationGap) {
      // Before the cursor moves: what is read now is at least as new as the cursor.
      await onRevocationGap()
      if (this.#isStopped) return
    }
    // A cluster change while this was under way has reset the cursor: that wish stands.
    if (this.#cluster === cluster) {
      this.#cursor = cursor
      this.#cursorAtMs = startedAtMs
    }
  }

  #setHealthy(isHealthy: boolean): void {
    if (this.#isHealthy === isHealthy) return
    this.#isHealthy = isHealthy
    if (!this.#isStopped) this.#options.onHealth?.(isHealthy)
  }

  #pause(ms: number): Promise<void> {
    const { signal } = this.#wake
    if (signal.aborted) return Promise.resolve()
    return new Promise(resolve => {
      const done = () => {
        clearTimeout(timer)
        signal.removeEventListener('abort', done)
        resolve()
      }
      const timer = setTimeout(done, ms)
      signal.addEventListener('abort', done)
    })
  }
}

const OPS: readonly string[] = ['insert', 'update', 'delete'] satisfies ChangeOp[]

/** The payload of a notice, or null where it is not one of ours. */
export function parseNotice(payload: string | undefined): TenantChange | null {
  try {
    const { id, key, version, op } = JSON.parse(payload ?? '') as Record<string, unknown>
    const tenantId = parseTenantId(id)
    if (tenantId === null || typeof key !== 'string' || !Number.isSafeInteger(version)) return null
    if (typeof op !== 'string' || !OPS.includes(op)) return null
    return { id: tenantId, key, version: version as number, op: op as ChangeOp }
  } catch {
    return null
  }
}

/** The same for a notice of a revoked token. */
export function parseRevocation(payload: string | undefined): Revocation | null {
  try {
    const { tenant, id, exp } = JSON.parse(payload ?? '') as Record<string, unknown>
    const tenantId = parseTenantId(tenant)
    if (tenantId === null || typeof id !== 'string' || id === '') return null
    if (typeof exp !== 'number' || !Number.isFinite(exp)) return null
    return { tenantId, tokenId: id, expiresAtS: exp }
  } catch {
    return null
  }
}

function late(): Error {
  return new Error('no answer in time')
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}
