import type { MigrationState } from '../registry/migration-note.ts'

export interface FleetStatus {
  /** Newest migration of this release. */
  readonly target: string | null
  readonly tenants: number
  /** Tenants by the version that the Registry has of them; `-` for none. */
  readonly versions: Readonly<Record<string, number>>
  /** By the runner's last word; `-` where none was here. */
  readonly states: Readonly<Record<string, number>>
  readonly laggards: readonly MigrationState[]
  readonly failed: readonly MigrationState[]
}

/** Tenants shown of each list; the counts are of all. */
const SHOWN_MAX = 50

/** Archived tenants are not of the fleet: nothing migrates them. */
export async function readStatus(
  states: AsyncIterable<MigrationState>,
  target: string | null,
): Promise<FleetStatus> {
  const versions: Record<string, number> = {}
  const words: Record<string, number> = {}
  const laggards: MigrationState[] = []
  const failed: MigrationState[] = []
  let tenants = 0
  for await (const one of states) {
    if (one.status === 'archived') continue
    tenants += 1
    const [version, word] = [one.schemaVersion ?? '-', one.state ?? '-']
    versions[version] = (versions[version] ?? 0) + 1
    words[word] = (words[word] ?? 0) + 1
    if (one.state === 'failed') failed.push(one)
    else if (isBehind(one.schemaVersion, target)) laggards.push(one)
  }
  return { target, tenants, versions, states: words, laggards, failed }
}

/** True where a database of `version` has something left to do for `target`. */
export function isBehind(version: string | null, target: string | null): boolean {
  if (target === null) return false
  // What is no version of ours was written by another tool.
  return version === null || !/^\d{4}$/.test(version) || version < target
}

export function renderStatus(status: FleetStatus): string {
  const lines = [`${status.tenants} tenant(s); this release: ${status.target ?? 'no migrations'}`]
  for (const [title, counts] of [
    ['version', status.versions],
    ['state', status.states],
  ] as const) {
    for (const [word, count] of Object.entries(counts).sort(([a], [b]) => (a < b ? 1 : -1))) {
      lines.push(`  ${title} ${word.padEnd(8)} ${String(count).padStart(7)}`)
    }
  }
  lines.push(...section('laggard', status.laggards), ...section('failed', status.failed))
  return `${lines.join('\n')}\n`
}

/** For programs: the lists in whole. */
export function statusForJson({ laggards, failed, ...rest }: FleetStatus): object {
  const shown = (one: MigrationState) => ({
    ...{ id: one.id, key: one.key, mode: one.mode, status: one.status },
    ...{ schema_version: one.schemaVersion, state: one.state, error: one.error },
    ...{ attempts: one.attempts, started_at: one.startedAt, duration_ms: one.durationMs },
  })
  return { ...rest, laggards: laggards.map(shown), failed: failed.map(shown) }
}

function section(title: string, tenants: readonly MigrationState[]): string[] {
  if (tenants.length === 0) return []
  const lines = tenants.slice(0, SHOWN_MAX).map(one => {
    const at = one.startedAt?.toISOString().slice(0, 19)
    const parts = [one.key, one.schemaVersion ?? '-', one.status, at ?? 'never tried', one.error]
    return `  ${parts.filter(Boolean).join('  ')}`
  })
  const more = tenants.length - SHOWN_MAX
  if (more > 0) lines.push(`  and ${more} more: --json shows all`)
  return [`${title}: ${tenants.length}`, ...lines]
}
