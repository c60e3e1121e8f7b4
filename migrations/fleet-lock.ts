import { closePg, connectPg, type PgTarget } from '../registry/lib/pg.ts'

/** Any constant will do; it keeps our lock apart from those of other tools. */
const FLEET_LOCK = "hashtextextended('doorman_fleet', 0)"

export interface FleetLock {
  /** False where another run is under way and this one wanted to be alone. */
  readonly isHeld: boolean
  release(): Promise<void>
}

/**
 * Says in the Registry that a run is under way, for as long as this process lives. Runs are safe beside each
 * other, for each database has a lock of its own; but of a hundred containers that start at once one is enough.
 *
 * @param isAlone take it only where no other run has it
 */
export async function lockFleet(registry: PgTarget, isAlone: boolean): Promise<FleetLock> {
  const client = await connectPg(registry, {
    ...{ connectTimeoutMs: 3000, statementTimeoutMs: 15_000 },
    applicationName: 'doorman-migrate-fleet',
  })
  const take = isAlone ? 'pg_try_advisory_lock' : 'pg_try_advisory_lock_shared'
  try {
    const { rows } = await client.query<{ held: boolean }>(`SELECT ${take}(${FLEET_LOCK}) AS held`)
    const isHeld = rows[0]?.held === true || !isAlone
    return { isHeld, release: () => closePg(client) }
  } catch (error) {
    await closePg(client)
    throw error
  }
}
