import { openConnections } from '../connection.ts'
import { HOLD_MS, HOLD_MS_MAX } from '../holds.ts'
import { type PgTarget, sslOptions } from '../lib/pg.ts'
import { MoveAborted, type MoveTarget, MoveUnknown, moveTenant } from '../move/move.ts'
import { type MadePlace, MoveRefused, makePlace } from '../move/place.ts'
import { dropLeftPlace } from '../move/replication.ts'
import { writeDb } from '../tenant-write.ts'
import { dbInput, readInput, seal } from './create.ts'
import { CliFailure, EXIT, type ExitCode } from './failure.ts'
import { readSecrets } from './input.ts'
import { findListed, findTenant, type Session } from './session.ts'
import type { Streams } from './streams.ts'

export interface MoveFlags {
  readonly toHost?: string
  readonly toPort?: number
  readonly toDb?: string
  readonly toUser?: string
  readonly toSslMode?: string
  readonly toAdmin?: string
  readonly live?: boolean
  readonly fromAdmin?: string
  readonly fromAddress?: string
  readonly seconds?: number
  readonly dryRun?: boolean
}

/**
 * `tenant move`: every step is a line. Ctrl-C, SIGTERM and every failure before the switch leave the tenant where it
 * was.
 */
export async function moveCommand(
  session: Session,
  name: string,
  flags: MoveFlags,
  { input, output, error }: Streams,
): Promise<ExitCode> {
  const { seconds = HOLD_MS / 1000, dryRun = false, toAdmin, fromAdmin } = flags
  if (seconds < 10 || seconds * 1000 > HOLD_MS_MAX) {
    throw new CliFailure(EXIT.usage, `--seconds must be from 10 to ${HOLD_MS_MAX / 1000}`)
  }
  if (dryRun && toAdmin !== undefined) {
    throw new CliFailure(EXIT.usage, '--dry-run makes no database: not together with --to-admin')
  }
  if (
    (flags.live ?? false) !== (fromAdmin !== undefined) ||
    (flags.live && toAdmin === undefined)
  ) {
    throw new CliFailure(EXIT.usage, '--live needs --from-admin and --to-admin')
  }
  const { id, configVersion } = await findListed(session, name)
  const tenant = await findTenant(session, name)
  const keyring = await session.keyring()
  const { db } = openConnections(keyring, tenant)
  const {
    host,
    port,
    name: dbName,
    user,
    ssl_mode,
  } = readInput(dbInput, {
    host: flags.toHost,
    port: flags.toPort,
    name: flags.toDb ?? db.name,
    user: flags.toUser ?? db.user,
    ssl_mode: flags.toSslMode ?? db.ssl,
    password: 'not yet read',
  })
  const label = toAdmin === undefined ? 'Database password' : 'Password of the administrator'
  const labels = fromAdmin === undefined ? [label] : [label, 'Password of --from-admin']
  const [given, fromPassword] = (await readSecrets(labels, input, error)) as [string, string?]
  const stop = new AbortController()
  const onSignal = () => stop.abort(new Error('stopped'))
  process.on('SIGINT', onSignal).on('SIGTERM', onSignal)
  const { tenantCa: ca, addressPolicy, store } = session
  let made: MadePlace | null = null
  try {
    if (toAdmin !== undefined) {
      const admin = { host, port, database: 'postgres', user: toAdmin, password: given }
      const ssl = sslOptions(ssl_mode, ca)
      const wanted = { database: dbName, user }
      if (flags.live && (await dropLeftPlace({ ...admin, ssl }, wanted, id, addressPolicy))) {
        output.write('dropped: what a live move that was killed had left on the new server\n')
      }
      made = await makePlace({ ...admin, ssl }, wanted, addressPolicy)
      output.write(`made: role ${user} and database ${dbName} on ${host}:${port}\n`)
    }
    const password = made?.password ?? given
    const to: MoveTarget = {
      ...{
        host,
        port,
        name: dbName,
        user,
        password,
        sslMode: ssl_mode,
        poolMax: tenant.db.poolMax,
      },
    }
    const from = { ...tenant.db, password: db.password }
    const live =
      fromAdmin === undefined
        ? undefined
        : {
            sourceAdmin: {
              ...targetOf(from, ca),
              user: fromAdmin,
              password: fromPassword as string,
            },
            targetAdmin: { ...targetOf(to, ca), user: toAdmin as string, password: given },
            seenAt: readAddress(flags.fromAddress) ?? { host: from.host, port: from.port },
          }
    const report = await moveTenant({
      ...{ store, to, ca, addressPolicy, isDryRun: dryRun, signal: stop.signal },
      tenant: { id, configVersion },
      from,
      ...(live !== undefined && { live }),
      passwordEncrypted: seal(keyring, id, 'db_password_encrypted', password),
      holdMs: seconds * 1000,
      switchTo: (...args) => writeDb(store, ...args),
      onStep: (step, text) => output.write(`${step}: ${text}\n`),
    })
    made = null
    for (const note of report.notes) output.write(`note: ${note}\n`)
    if (dryRun) {
      output.write(`${tenant.key} can be moved; nothing was changed\n`)
      return EXIT.ok
    }
    const { tables, rows, heldMs } = report
    output.write(`${tenant.key} has moved: ${tables} tables, ${rows} rows, held for ${heldMs} ms\n`)
    for (const undo of report.undo) output.write(`to open the old database again: ${undo};\n`)
    if (report.fenceProblem === null) return EXIT.ok
    error.write(
      `doorman: the old database still takes writes, lock it by hand: ${report.fenceProblem}\n`,
    )
    return EXIT.failure
  } catch (failure) {
    // It may be in use by now.
    if (failure instanceof MoveUnknown) made = null
    const isClear = failure instanceof MoveAborted || failure instanceof MoveRefused
    throw isClear ? new CliFailure(EXIT.failure, failure.message) : failure
  } finally {
    process.off('SIGINT', onSignal).off('SIGTERM', onSignal)
    await made?.unmake().catch(() => {
      error.write('doorman: the role and the database that were made could not be dropped again\n')
    })
  }
}

function targetOf(
  { host, port, name, user, password, sslMode }: MoveTarget,
  ca?: string,
): PgTarget {
  return { host, port, database: name, user, password, ssl: sslOptions(sslMode, ca) }
}

function readAddress(text: string | undefined): { host: string; port: number } | null {
  if (text === undefined) return null
  const [, host, port] = /^\[?([^[\]\s]+?)\]?:(\d{1,5})$/.exec(text) ?? []
  if (host === undefined) throw new CliFailure(EXIT.usage, '--from-address must be HOST:PORT')
  return { host, port: Number(port) }
}
