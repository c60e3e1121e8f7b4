import { setTimeout as delay } from 'node:timers/promises'
import { awaitHold } from '../await-hold.ts'
import { HOLD_MS_MAX, type Hold, holdsInForce, placeHold, releaseHold } from '../holds.ts'
import type { AddressPolicy } from '../lib/address.ts'
import { withDeadline } from '../lib/deadline.ts'
import { sslOptions } from '../lib/pg.ts'
import type { RegistryStore } from '../store.ts'
import type { TenantId } from '../tenant.ts'
import { findListedTenant } from '../tenant-list.ts'
import type { NewDb } from '../tenant-write.ts'
import { MoveRefused, openPlace, type Place } from './place.ts'
import { type LiveOptions, Replication } from './replication.ts'
import { copyRows, copySequences, differences, figuresOf } from './rows.ts'
import { isSameSchema, readSchema, type Schema } from './schema.ts'
import { checkSource, cutOtherSessions, refuseWritesForGood, stopWrites } from './source.ts'
import { checkTarget, make, rehearse } from './target.ts'

/** In this order; what is told before each begins. `replicate` is a live move's alone. */
export const MOVE_STEPS = [
  'preflight',
  'rehearse',
  'replicate',
  'hold',
  'drain',
  'lock',
  'copy',
  'verify',
  'switch',
  'fence',
  'release',
] as const
export type MoveStep = (typeof MOVE_STEPS)[number]

/** Where the tenant goes. */
export interface MoveTarget extends Omit<NewDb, 'passwordEncrypted'> {
  readonly password: string
}

export interface MoveOptions {
  readonly store: Pick<RegistryStore, 'query'>
  /** Gives the tenant that is at version `basedOn` the new place. Null: it is gone. @throws Fault CONFLICT */
  readonly switchTo: (id: TenantId, db: NewDb, basedOn: number) => Promise<object | null>
  readonly tenant: { readonly id: TenantId; readonly configVersion: number }
  readonly from: MoveTarget
  readonly to: MoveTarget
  /** The new password as the Registry keeps it. */
  readonly passwordEncrypted: string
  /** PEM of the CA of the tenant databases. */
  readonly ca: string | undefined
  readonly addressPolicy: AddressPolicy | null
  /** At most so long the tenant's requests wait. */
  readonly holdMs: number
  /** Stops after the rehearsal: nothing is changed, nobody waits. */
  readonly isDryRun: boolean
  /** A move that has not switched yet is undone. */
  readonly signal: AbortSignal
  /** Rows come by logical replication while the tenant is served, and not by a copy while its requests wait. */
  readonly live?: LiveOptions
  readonly onStep: (step: MoveStep, text: string) => void
}

export interface MoveReport {
  readonly tables: number
  readonly rows: number
  /** How long requests waited at most; 0 for a dry run. */
  readonly heldMs: number
  readonly notes: readonly string[]
  /** Statements that open the old database again. */
  readonly undo: readonly string[]
  /** Why the old database was not locked, though the tenant has moved; null: it is. */
  readonly fenceProblem: string | null
}

/** The tenant is where it was, and is served. */
export class MoveAborted extends Error {
  override readonly name = 'MoveAborted'
}

/**
 * Rows, indexes and comparison together. COPY alone took 25 MB/s (a million rows of 100 bytes) and 45 MB/s (of 2 KB)
 * on two busy cores.
 */
const BYTES_PER_S_EXPECTED = 10 * 1024 * 1024
/** Kept of a hold for everything but the copy. */
const RESERVE_MS = 5_000
/** Within a hold the switch comes no later than so long before its end. */
const SWITCH_MARGIN_MS = 2_000
/** Longest wait for requests under way, as a share of the hold. */
const DRAIN_SHARE = 0.5
const LOCK_WAIT_MS_MAX = 10_000
const ROLLBACK_MS = 1_000
/** How often the Registry is asked to switch while it cannot be asked; each attempt takes up to ten seconds. */
const SWITCH_ATTEMPTS = 8
const SWITCH_PAUSE_MS = 500
const UNKNOWN =
  'the Registry does not answer: it is not known whether the tenant has moved. Look by `tenant show`. The copy is ' +
  'left where it is; the old database is open again'

/**
 * Moves a tenant to another database while it is served: its requests wait for as long as the copy takes, and go on
 * against the new one. Until the switch every failure leaves the tenant where it was and served: locks end with the
 * session, the copy is one transaction, the hold ends by a release or by the gateways' clocks.
 *
 * Three things keep a write from being lost: requests wait at the gateways; the tables are locked against writes from
 * before the copy until after the switch; and when those locks go, the old database refuses writes for good.
 *
 * @throws MoveAborted, with the cause; MoveRefused before anything was touched
 */
export async function moveTenant(options: MoveOptions): Promise<MoveReport> {
  const places: Place[] = []
  const move = new Move(options, places)
  try {
    return await move.run()
  } finally {
    await move.close()
  }
}

class Move {
  readonly #options: MoveOptions
  readonly #places: Place[]
  #hold: Hold | null = null
  #replication: Replication | null = null
  #heldSinceMs = 0
  #step: MoveStep = 'preflight'
  /** The target holds a whole copy that nobody uses yet. */
  #isCopyCommitted = false
  #rows = 0

  constructor(options: MoveOptions, places: Place[]) {
    const onStep = (step: MoveStep, text: string) => {
      this.#step = step
      options.onStep(step, text)
    }
    this.#options = { ...options, onStep }
    this.#places = places
  }

  async close(): Promise<void> {
    await this.#replication?.close()
    for (const place of this.#places) await place.close()
  }

  async run(): Promise<MoveReport> {
    const { onStep, isDryRun, tenant, to, signal } = this.#options
    onStep('preflight', `${to.host}:${to.port}/${to.name} as ${to.user}`)
    const source = await this.#open('the tenant’s database', this.#options.from)
    const target = await this.#open('the target database', to)
    const schema = await readSchema(source.client)
    await checkSource(source.client, schema)
    const ofTarget = await readSchema(target.client)
    const notes = [...(await checkTarget(source.client, target.client, schema, ofTarget))]
    const replication = await this.#openReplication(source, target, schema)
    const about = replication === null ? `, about ${this.#checkSize(schema)} ms` : ''
    onStep('rehearse', `${schema.tables.length} tables, ${mb(schema.bytes)}${about}`)
    await target.client.query('BEGIN')
    await rehearse(target.client, schema)
    signal.throwIfAborted()
    const report = { tables: schema.tables.length, notes, undo: [], fenceProblem: null }
    if (isDryRun) return { ...report, rows: 0, heldMs: 0 }
    try {
      if (replication !== null) await this.#replicate(replication, source, target, schema)
      await this.#copyUnderHold(source, target, schema)
      await this.#switch(tenant)
    } catch (error) {
      if (error instanceof MoveUnknown) throw error
      const reason = this.#reasonOf(error)
      const left = await this.#abort(source, target, schema)
      const served = `${reason}. The tenant is where it was, and is served`
      throw new MoveAborted(`${served}${left}`, { cause: error })
    }
    const fence = await this.#fence(source, schema)
    const heldMs = await this.#release()
    await replication?.dropRole().catch(error => {
      notes.push(
        `the role of the replication is left on the old server: ${(error as Error).message}`,
      )
    })
    return { ...report, ...fence, rows: this.#rows, heldMs }
  }

  /** @returns null: the rows are copied while requests wait */
  async #openReplication(
    source: Place,
    target: Place,
    schema: Schema,
  ): Promise<Replication | null> {
    const { live, tenant, addressPolicy } = this.#options
    if (live === undefined) return null
    const options = { ...live, tenantId: tenant.id, source, target, schema, addressPolicy }
    this.#replication = await Replication.open(options)
    await this.#replication.check()
    return this.#replication
  }

  /** Nobody waits meanwhile, however long it takes. */
  async #replicate(
    replication: Replication,
    source: Place,
    target: Place,
    schema: Schema,
  ): Promise<void> {
    const { onStep, signal } = this.#options
    const cut = () => {
      replication.cut()
      for (const place of this.#places) place.cut()
    }
    signal.addEventListener('abort', cut, { once: true })
    try {
      // Keys too: changes find their rows by them.
      await make(target.client, [...schema.before, ...schema.after])
      await target.client.query('COMMIT')
      this.#isCopyCommitted = true
      await replication.start()
      let told = ''
      await replication.untilCopied(signal, (copied, lagBytes) => {
        const text = `${copied} of ${schema.tables.length} tables are there`
        if (text !== told) onStep('replicate', `${text}, ${mb(lagBytes)} to come`)
        told = text
      })
      await this.#timeComparison(source, target, schema)
    } finally {
      signal.removeEventListener('abort', cut)
    }
  }

  /** It is done once more while requests wait, and must not take most of the time that they may. */
  async #timeComparison(source: Place, target: Place, schema: Schema): Promise<void> {
    const { holdMs } = this.#options
    const startedAt = performance.now()
    await Promise.all([figuresOf(source.client, schema), figuresOf(target.client, schema)])
    const tookS = (performance.now() - startedAt) / 1000
    if (tookS * 1000 * 2 < holdMs) return
    const needS = Math.ceil(tookS * 2)
    throw new MoveRefused(
      `to compare all rows takes ${tookS.toFixed(1)} s: allow it by --seconds ${needS}` +
        (needS * 1000 > HOLD_MS_MAX ? `, which is more than ${HOLD_MS_MAX / 1000}` : ''),
    )
  }

  async #copyUnderHold(source: Place, target: Place, schema: Schema): Promise<void> {
    const { store, tenant, holdMs, onStep, signal } = this.#options
    const replication = this.#replication
    // What does not depend on rows is there before anybody waits.
    if (replication === null) await make(target.client, schema.before)
    onStep('hold', `for ${holdMs / 1000} s at most`)
    const hold = await placeHold(store, tenant.id, holdMs, `moved by pid ${process.pid}`)
    this.#hold = hold
    this.#heldSinceMs = performance.now()
    const late = AbortSignal.timeout(Math.max(1, holdMs - SWITCH_MARGIN_MS))
    const over = AbortSignal.any([signal, late])
    // A statement that hangs ends with its connection.
    const cut = () => {
      replication?.cut()
      for (const place of this.#places) place.cut()
    }
    over.addEventListener('abort', cut, { once: true })
    try {
      onStep('drain', 'waiting for the gateways')
      const acks = await awaitHold(store, hold, holdMs * DRAIN_SHARE, over)
      onStep('lock', `${acks.length} gateways hold it`)
      await stopWrites(source.client, schema, Math.min(LOCK_WAIT_MS_MAX, this.#leftMs(hold)))
      if (!isSameSchema(schema, await readSchema(source.client))) {
        throw new MoveRefused('the schema was changed meanwhile')
      }
      if (replication === null) {
        onStep('copy', mb(schema.bytes))
        await copyRows(source.client, target.client, schema)
        await make(target.client, schema.after)
      } else {
        onStep('copy', 'what was written last')
        await replication.catchUp(over)
        await replication.end()
      }
      await copySequences(source.client, target.client, schema)
      onStep('verify', `${schema.tables.length} tables`)
      await this.#verify(source, target, schema)
      over.throwIfAborted()
    } finally {
      over.removeEventListener('abort', cut)
    }
  }

  async #verify(source: Place, target: Place, schema: Schema): Promise<void> {
    const [a, b] = await Promise.all([
      figuresOf(source.client, schema),
      figuresOf(target.client, schema),
    ])
    const different = differences(a, b)
    if (different.length > 0) throw new MoveRefused(`the copy differs: ${different.join('; ')}`)
    this.#rows = [...b.values()].reduce((sum, { rows }) => sum + rows, 0)
    if (this.#replication === null) await target.client.query('COMMIT')
    this.#isCopyCommitted = true
  }

  /** The one step after which there is no way back. */
  async #switch(tenant: MoveOptions['tenant']): Promise<void> {
    const { store, switchTo, to, passwordEncrypted, onStep, signal } = this.#options
    const hold = this.#hold as Hold
    onStep('switch', `${to.host}:${to.port}/${to.name}`)
    signal.throwIfAborted()
    const inForce = await holdsInForce(store)
    const restMs = inForce.find(({ holdId }) => holdId === hold.id)?.restMs ?? 0
    if (restMs < SWITCH_MARGIN_MS) throw new MoveRefused('the hold has ended before the switch')
    const { password: _, ...place } = to
    const db = { ...place, passwordEncrypted }
    for (let attempt = 1; ; attempt++) {
      try {
        const changed = await switchTo(tenant.id, db, tenant.configVersion)
        if (changed === null) throw new MoveRefused('the tenant is gone')
        return
      } catch (error) {
        const { code } = error as { readonly code?: string }
        if (code === 'CONFLICT' && (await this.#hasSwitched())) return
        if (code !== 'REGISTRY_UNAVAILABLE') throw error
        if (attempt === SWITCH_ATTEMPTS) throw new MoveUnknown(UNKNOWN, { cause: error })
        // It may have come about all the same. The next attempt tells: it waits for one that is under way, and finds the
        // version moved where that one went through. Until then the locks stay.
        await delay(SWITCH_PAUSE_MS)
      }
    }
  }

  /** No two ciphertexts are equal, so it is this move's. */
  async #hasSwitched(): Promise<boolean> {
    const { store, tenant, passwordEncrypted } = this.#options
    return (await findListedTenant(store, tenant.id))?.db.passwordEncrypted === passwordEncrypted
  }

  async #fence(source: Place, schema: Schema): Promise<Pick<MoveReport, 'undo' | 'fenceProblem'>> {
    this.#options.onStep('fence', 'the old database takes no more writes of the tenant’s role')
    const fence = async ({ client }: Place) => {
      await this.#replication?.withdraw(client)
      const undo = await refuseWritesForGood(client, schema)
      await client.query('COMMIT')
      await cutOtherSessions(client)
      return { undo, fenceProblem: null }
    }
    try {
      return await fence(source)
    } catch {
      // Its session is gone, and the locks with it: once more, by a new one.
    }
    try {
      const again = await this.#open('the old database', this.#options.from)
      await stopWrites(again.client, schema, LOCK_WAIT_MS_MAX)
      return await fence(again)
    } catch (error) {
      return { undo: [], fenceProblem: (error as Error).message }
    }
  }

  async #release(): Promise<number> {
    const { store, onStep, tenant } = this.#options
    onStep('release', 'requests go on')
    // Where it cannot be, the gateways end it by themselves.
    if (this.#hold !== null) await releaseHold(store, tenant.id, this.#hold.id).catch(() => {})
    return Math.round(performance.now() - this.#heldSinceMs)
  }

  /** @returns what could not be taken back, in words */
  async #abort(source: Place, target: Place, schema: Schema): Promise<string> {
    // First of all: the tenant is served again.
    await rollBack(source)
    if (this.#hold !== null) await this.#release()
    if (!this.#isCopyCommitted) {
      await rollBack(target)
      return ''
    }
    let left = ''
    await this.#replication?.abandon().catch(error => {
      left = `; but the replication is left, and the old server keeps its log for it: ${(error as Error).message}`
    })
    // Else the next attempt would find a database that is not empty. Nobody was told of the copy.
    const again = await this.#open('the target database', this.#options.to).catch(() => null)
    for (const drop of schema.drops) await again?.client.query(drop).catch(() => {})
    return left
  }

  #checkSize({ bytes }: Schema): number {
    const { holdMs } = this.#options
    const expectedMs = Math.ceil((bytes / BYTES_PER_S_EXPECTED) * 1000)
    if (expectedMs + RESERVE_MS <= holdMs) return expectedMs
    const needS = Math.ceil((expectedMs + RESERVE_MS) / 1000)
    const advice =
      needS * 1000 <= HOLD_MS_MAX ? `allow it by --seconds ${needS}` : 'move it by --live'
    throw new MoveRefused(
      `${mb(bytes)} may take ${needS} s to copy, longer than requests may wait (${holdMs / 1000} s): ${advice}`,
    )
  }

  #leftMs({ expiresAtMs }: Hold): number {
    return Math.max(1, expiresAtMs - SWITCH_MARGIN_MS - Date.now())
  }

  #reasonOf(error: unknown): string {
    const { signal } = this.#options
    if (signal.aborted) return 'stopped'
    const isLate = this.#hold !== null && this.#leftMs(this.#hold) <= 1
    if (isLate) return `${this.#step}: it took longer than requests may wait`
    return error instanceof Error ? error.message : String(error)
  }

  async #open(what: string, place: MoveTarget): Promise<Place> {
    const { ca, addressPolicy } = this.#options
    const { host, port, name, user, password, sslMode } = place
    const at = { host, port, database: name, user, password, ssl: sslOptions(sslMode, ca) }
    const opened = await openPlace(what, at, addressPolicy)
    this.#places.push(opened)
    return opened
  }
}

/** Where a switch ended in the dark. */
export class MoveUnknown extends Error {
  override readonly name = 'MoveUnknown'
}

/** At once, or by cutting the session: a server that hangs must not keep the tenant from being served. */
async function rollBack(place: Place): Promise<void> {
  const late = () => new Error('late')
  await withDeadline(place.client.query('ROLLBACK'), ROLLBACK_MS, late).catch(place.cut)
}

function mb(bytes: number): string {
  return `${(bytes / 1024 / 1024).toFixed(1)} MB`
}
