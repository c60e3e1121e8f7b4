import { takeSweepLease } from '../sweep-lease.ts'
import { pruneUsers } from '../usage-prune.ts'
import { type Measured, sweepUsage } from '../usage-sweep.ts'
import { CliFailure, EXIT, type ExitCode } from './failure.ts'
import type { Session } from './session.ts'
import type { Streams } from './streams.ts'

export interface SweepFlags {
  readonly atOnce: number
  readonly perHost: number
  readonly tenantTimeout: number
  readonly json?: boolean
}

/** Exit code 1: some tenants could not be measured. */
export async function sweep(
  session: Session,
  { atOnce, perHost, tenantTimeout, json = false }: SweepFlags,
  { output, error }: Streams,
): Promise<ExitCode> {
  const lease = await takeSweepLease(session.store)
  if (lease === null) throw new CliFailure(EXIT.busy, 'another sweep is under way')
  const counts = { measured: 0, failed: 0 }
  const tell = (measured: Measured) => {
    if (measured.problem === null) counts.measured++
    else counts.failed++
    if (json) output.write(`${JSON.stringify({ event: 'tenant', ...measured })}\n`)
    else if (measured.problem !== null) error.write(`${measured.key}: ${measured.problem}\n`)
  }
  try {
    const pruned = await pruneUsers(session, {
      keepDays: session.usersKeepDays,
      signal: lease.lost,
    })
    if (json) output.write(`${JSON.stringify({ event: 'pruned', ...pruned })}\n`)
    else if (pruned.kept + pruned.rows > 0) {
      output.write(`${pruned.rows} names and sketches pruned, ${pruned.kept} months kept\n`)
    }
    const limits = { atOnce, perHost, tenantMs: tenantTimeout * 1000, signal: lease.lost }
    await sweepUsage(session, limits, tell)
    if (lease.lost.aborted) throw new CliFailure(EXIT.busy, 'another sweep has taken over')
  } finally {
    await lease.release()
  }
  output.write(
    json
      ? `${JSON.stringify({ event: 'end', ...counts })}\n`
      : `${counts.measured} tenants measured, ${counts.failed} failed\n`,
  )
  return counts.failed === 0 ? EXIT.ok : EXIT.failure
}
