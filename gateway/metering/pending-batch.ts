import type { RegistryStore } from '../../registry/store.ts'
import {
  applyUsage,
  applyUsagePart,
  keepLateUsage,
  type PartApplied,
  type UsageBatch,
  type UsageParts,
} from '../../registry/usage-batch.ts'
import { type DividedUsage, divideUsage, sizeOfDigest } from '../../registry/usage-parts.ts'
import { refusalOf } from '../../registry/usage-refusal.ts'

/** What was put aside in usage_refused. */
export interface PutAside {
  readonly sequence: number
  /** SQLSTATE, or `late`. */
  readonly sqlstate: string
  readonly reason: string
  readonly parts: UsageParts
}

export interface WrittenBatch {
  /** It is in by its file, with what that held beyond it, see `Meter.written`. */
  readonly isByAnother: boolean
  readonly refused: readonly PutAside[]
}

type Store = Pick<RegistryStore, 'query'>

/** Time-outs in a row after which a batch is brought in in parts: the Registry may be too slow for all of it. */
const TIMEOUTS_MAX = 3
/** Tenants of a part then. */
const SLOW_PART_TENANTS = 50

/**
 * One batch, from its first attempt until the Registry has it. It goes as a whole, by one statement. Where what it holds is refused, or
 * takes too long, it goes in parts, of which each counts once: that is so whatever became of the whole, for the Registry takes
 * no part of a batch that it has. Refused, a part is one tenant and day, and the only thing that is put aside.
 */
export class PendingBatch {
  readonly batch: UsageBatch
  #isAhead = false
  #timeouts = 0
  #divided: DividedUsage | null = null
  /** Parts that are in. */
  #done = 0
  /** By part. */
  readonly #refused = new Map<number, PutAside>()

  constructor(batch: UsageBatch) {
    this.batch = batch
  }

  /** @throws Fault: to be tried again, whenever it may be */
  async write(store: Store): Promise<WrittenBatch> {
    try {
      return await this.#write(store)
    } catch (error) {
      const { why, sqlState } = refusalOf(error)
      // The clock was ahead when the batch was sealed, which was not later than now.
      if (sqlState === CLOCK_AHEAD) this.#isAhead = true
      this.#timeouts = why === 'timeout' ? this.#timeouts + 1 : 0
      if (this.#divided === null && this.#timeouts >= TIMEOUTS_MAX) {
        await this.#divide(SLOW_PART_TENANTS)
      }
      throw error
    }
  }

  async #write(store: Store): Promise<WrittenBatch> {
    if (this.#divided !== null) return this.#writeParts(store, this.#divided)
    const batch = { ...this.batch, sealedAtMs: this.#sealedAtMs() }
    try {
      const outcome = await applyUsage(store, batch)
      if (outcome === 'late') return await this.#putAside(store)
      return this.#end(outcome === 'taken')
    } catch (error) {
      if (refusalOf(error).kind !== 'poison') throw error
    }
    return this.#writeParts(store, await this.#divide(1))
  }

  async #divide(tenantsMax: number): Promise<DividedUsage> {
    const divided = await divideUsage(this.batch, tenantsMax)
    this.#divided = divided
    this.#done = 0
    return divided
  }

  async #writeParts(store: Store, { digest, parts }: DividedUsage): Promise<WrittenBatch> {
    const { instance, sequence } = this.batch
    while (this.#done < parts.length) {
      const part = {
        ...{ instance, sequence, sealedAtMs: this.#sealedAtMs(), takesRest: false, restOf: null },
        ...{
          part: this.#done + 1,
          of: parts.length,
          digest,
          parts: parts[this.#done] as UsageParts,
        },
      }
      let outcome: PartApplied
      try {
        outcome = await applyUsagePart(store, part)
        if (outcome === 'applied') this.#refused.delete(part.part)
      } catch (error) {
        const { kind, sqlState } = refusalOf(error)
        if (kind !== 'poison') throw error
        const reason = (error as { reason?: string }).reason ?? 'refused'
        // Before it is said: its answer may be lost, and next time it is known.
        this.#refused.set(part.part, { sequence, sqlstate: sqlState, reason, parts: part.parts })
        outcome = await applyUsagePart(store, { ...part, refused: { code: sqlState, reason } })
      }
      if (outcome === 'late') return this.#putAside(store)
      if (outcome === 'taken') return this.#end(true)
      if (typeof outcome === 'object') return this.#writeAs(store, outcome.digest)
      this.#done++
      this.#timeouts = 0
    }
    return this.#end(false)
  }

  /** Begun in another division: by this process in parts of another size, or by who took it for dead. */
  async #writeAs(store: Store, digest: string): Promise<WrittenBatch> {
    const again = await this.#divide(sizeOfDigest(digest) ?? 1)
    if (again.digest === digest) return this.#writeParts(store, again)
    // The rest of it is with that one, whom the Registry lets come to its end.
    this.#divided = null
    const batch = { ...this.batch, sealedAtMs: this.#sealedAtMs() }
    return this.#end((await applyUsage(store, batch)) === 'taken')
  }

  async #putAside(store: Store): Promise<WrittenBatch> {
    await keepLateUsage(store, this.batch)
    const { sequence, instance: _, sealedAtMs: __, ...parts } = this.batch
    const reason = 'it is older than 30 days'
    this.#refused.set(0, { sequence, sqlstate: 'late', reason, parts })
    return this.#end(false)
  }

  #end(isByAnother: boolean): WrittenBatch {
    return { isByAnother, refused: [...this.#refused.values()] }
  }

  #sealedAtMs(): number {
    const { sealedAtMs } = this.batch
    return this.#isAhead ? Math.min(sealedAtMs, Date.now()) : sealedAtMs
  }
}

/** See `usage_is_late` in migrations/registry/0023_usage_parts.sql. */
const CLOCK_AHEAD = 'DM001'
