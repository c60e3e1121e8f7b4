import type { Log } from '../../registry/lib/log.ts'
import type { RegistryStore } from '../../registry/store.ts'
import { applyUsagePart, type PartApplied, type UsagePart } from '../../registry/usage-batch.ts'
import { divideUsage, sizeOfDigest } from '../../registry/usage-parts.ts'
import { refusalOf } from '../../registry/usage-refusal.ts'
import type { JournalFile } from './journal-file.ts'

export interface BringInOptions {
  readonly store: Pick<RegistryStore, 'query'>
  readonly log: Log
}

/**
 * Tenants and days of a part: some ten milliseconds of the Registry, where a statement may take REGISTRY_QUERY_TIMEOUT_MS. What is
 * refused is put aside as a part.
 */
const PART_TENANTS = 200

/**
 * Brings in what a file holds, part by part; whoever brought in some of them before, each counts once.
 *
 * @returns `known`: there was nothing left to bring in. `aside`: nobody can say what of it is in
 * @throws Fault: to be tried again
 */
export async function bringIn(
  { store, log }: BringInOptions,
  file: string,
  { head, parts: usage, damaged }: JournalFile,
): Promise<'applied' | 'known' | 'aside'> {
  const { instance, sequence, openedAtMs, isFinal, restOf } = head
  const about = { instance, sequence, sealedAtMs: openedAtMs, takesRest: !isFinal, restOf }
  let divided = await divideUsage(usage, PART_TENANTS)
  let isDividedAgain = false
  let applied = 0
  for (let i = 0; i < divided.parts.length; i++) {
    const { digest, parts } = divided
    const part = { ...about, part: i + 1, of: parts.length, digest, parts: parts[i] as never }
    const outcome = await bringInPart({ store, log }, file, part)
    if (outcome === 'late') {
      log.error({ file }, 'usage is too old to say whether it is in, put aside')
      return 'aside'
    }
    if (outcome === 'void' || outcome === 'taken') break
    if (outcome === 'applied') applied++
    if (typeof outcome !== 'object') continue
    // Begun in parts of another size: by the process itself, or by another release.
    const size = sizeOfDigest(outcome.digest)
    if (size !== null && !isDividedAgain) divided = await divideUsage(usage, size)
    isDividedAgain = true
    if (divided.digest !== outcome.digest) {
      log.error({ file }, 'usage was brought in in part and has changed since, put aside')
      return 'aside'
    }
    i = -1
  }
  const outcome = applied > 0 ? 'applied' : 'known'
  const of = divided.parts.length
  log.info({ file, outcome, damaged, parts: of }, 'usage of a process that ended was brought in')
  return outcome
}

async function bringInPart(
  { store, log }: BringInOptions,
  file: string,
  part: UsagePart,
): Promise<PartApplied> {
  try {
    return await applyUsagePart(store, part)
  } catch (error) {
    const { kind, sqlState } = refusalOf(error)
    if (kind !== 'poison') throw error
    const reason = (error as { reason?: string }).reason ?? 'refused'
    log.error(
      { file, part: part.part, sqlstate: sqlState, reason },
      'usage was put aside: usage_refused has it',
    )
    return applyUsagePart(store, { ...part, refused: { code: sqlState, reason } })
  }
}
