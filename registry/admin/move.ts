import { z } from 'zod'
import { openConnections } from '../connection.ts'
import { requireFreeDatabase } from '../database-place.ts'
import { HOLD_MS, HOLD_MS_MAX } from '../holds.ts'
import { Fault, toFault } from '../lib/errors.ts'
import { MoveAborted, type MoveOptions, MoveUnknown, moveTenant } from '../move/move.ts'
import { MoveRefused } from '../move/place.ts'
import { requireNoRun } from '../provision/runs.ts'
import type { TenantId } from '../tenant.ts'
import { parseTenantRow } from '../tenant-row.ts'
import type { NewDb } from '../tenant-write.ts'
import type { Actor } from './actor.ts'
import { addAudit } from './audit.ts'
import { changeTenant, type Expected, requireExpected } from './change.ts'
import type { AdminDeps } from './deps.ts'
import { columns, reason } from './fields.ts'
import { requireRow } from './row.ts'

const ACTION = 'tenant.move'
const SECONDS_MIN = 10
const SECONDS_MAX = HOLD_MS_MAX / 1000
const SECONDS_TEXT = `must be a whole number from ${SECONDS_MIN} to ${SECONDS_MAX}`

/** Where a tenant goes: an empty database, and the role that owns it. What is not given is as it was. */
export const moveInput = z.strictObject({
  db_host: columns.db_host,
  db_port: columns.db_port.default(5432),
  db_name: columns.db_name.optional(),
  db_user: columns.db_user.optional(),
  db_password: columns.db_password,
  db_ssl_mode: columns.db_ssl_mode.optional(),
  /** How long its requests may wait. */
  seconds: z
    .int(SECONDS_TEXT)
    .min(SECONDS_MIN, SECONDS_TEXT)
    .max(SECONDS_MAX, SECONDS_TEXT)
    .default(HOLD_MS / 1000),
  /** true: it is only looked whether it can be done. */
  dry_run: z.boolean('must be true or false').default(false),
  reason: reason.optional(),
})
export type MoveInput = z.output<typeof moveInput>

export interface Moved {
  readonly dry_run: boolean
  readonly tables: number
  readonly rows: number
  /** How long requests waited at most. */
  readonly held_ms: number
  readonly notes: readonly string[]
  /** Statements that open the old database again. */
  readonly undo: readonly string[]
  /** Why the old database still takes writes, though the tenant has moved; null: it takes none. */
  readonly fence_problem: string | null
}

/**
 * Copies a tenant into another database while its requests wait, and switches it (registry/move/move.ts). A copy that
 * is too long for that is the command line's: `move --live`.
 *
 * @param gone a caller that leaves before the switch has the tenant stay where it was
 * @param told hears of each step before it begins
 * @throws Fault NOT_FOUND, PRECONDITION_FAILED, CONFLICT, TENANT_CONFIG_INVALID, MOVE_FAILED: it is where it was;
 *   REGISTRY_UNAVAILABLE: it is not known where
 */
export async function moveTenantBy(
  deps: AdminDeps,
  actor: Actor,
  id: TenantId,
  input: MoveInput,
  expected: Expected,
  gone: AbortSignal,
  told: MoveOptions['onStep'] = () => {},
): Promise<Moved> {
  const row = await requireRow(deps.store, id)
  requireExpected(row, expected)
  const tenant = parseTenantRow(row)
  const keyring = await deps.keyring()
  const { db } = openConnections(keyring, tenant)
  const change = { actor, action: ACTION, reason: input.reason ?? null }
  const to = {
    ...{ host: input.db_host, port: input.db_port, password: input.db_password },
    ...{ name: input.db_name ?? db.name, user: input.db_user ?? db.user },
    sslMode: input.db_ssl_mode === undefined ? tenant.db.sslMode : input.db_ssl_mode,
    poolMax: tenant.db.poolMax,
  }
  const place = { owner: id, column: 'db_password_encrypted' } as const
  const options: MoveOptions = {
    store: deps.store,
    // As writeDb, but that the audit learns who it was.
    switchTo: (tenantId, next, basedOn) =>
      changeTenant(
        deps.store,
        tenantId,
        { ...change, expected: { basedOn } },
        async (now, client) => {
          if (now.status === 'provisioning') await requireNoRun(client, tenantId)
          await requireFreeDatabase(client, tenantId, next)
          return columnsOf(next)
        },
      ),
    tenant: { id, configVersion: tenant.configVersion },
    from: { ...tenant.db, password: db.password },
    ...{ to, passwordEncrypted: keyring.encrypt(input.db_password, place) },
    ...{ ca: deps.tenantCa, addressPolicy: deps.addressPolicy },
    ...{ holdMs: input.seconds * 1000, isDryRun: input.dry_run, signal: gone },
    onStep: (step, text) => {
      deps.log.info({ tenantId: id, step, text, actor: actor.name }, 'a tenant is being moved')
      told(step, text)
    },
  }
  try {
    const { tables, rows, heldMs, notes, undo, fenceProblem } = await moveTenant(options)
    const report = { tables, rows, held_ms: heldMs, notes, undo, fence_problem: fenceProblem }
    return { dry_run: input.dry_run, ...report }
  } catch (error) {
    const fault =
      gone.aborted && !(error instanceof MoveUnknown)
        ? failed('its caller has left', error)
        : faultOf(error)
    const details = { code: fault.code, db_host: to.host, db_port: to.port, db_name: to.name }
    const entry = { ...change, tenantId: id, outcome: 'failed', details } as const
    if (!input.dry_run) {
      const { code, reason } = fault
      deps.log.warn({ tenantId: id, code, reason, actor: actor.name }, 'a move has failed')
      // Why it failed is worth more to whoever waits than that the audit cannot be written.
      await deps.store
        .use(client => addAudit(client, { ...entry, tenantKey: tenant.key }))
        .catch(() => {})
    }
    throw fault
  }
}

function columnsOf({ host, port, name, user, sslMode, poolMax, ...secret }: StoredDb) {
  return {
    ...{ db_host: host, db_port: port, db_name: name, db_user: user },
    ...{ db_ssl_mode: sslMode, db_pool_max: poolMax },
    db_password_encrypted: secret.passwordEncrypted,
  }
}

type StoredDb = Omit<NewDb, 'passwordEncrypted'> & { readonly passwordEncrypted: string | null }

function faultOf(error: unknown): Fault {
  if (error instanceof MoveUnknown) {
    const publicMessage = error.message
    return new Fault('REGISTRY_UNAVAILABLE', publicMessage, { cause: error, publicMessage })
  }
  if (!(error instanceof MoveAborted || error instanceof MoveRefused)) return toFault(error)
  return failed(error.message, error)
}

function failed(publicMessage: string, cause: unknown): Fault {
  return new Fault('MOVE_FAILED', publicMessage, { cause, publicMessage })
}
