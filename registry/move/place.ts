import { type Client, escapeIdentifier, escapeLiteral } from 'pg'
import type { AddressPolicy } from '../lib/address.ts'
import { Fault } from '../lib/errors.ts'
import { closePg, connectPg, destroyPg, type PgTarget } from '../lib/pg.ts'
import { newPassword, scramVerifier } from '../lib/scram.ts'
import { SESSION } from './schema.ts'

/** A move that cannot be done, in words for whoever asked for it. */
export class MoveRefused extends Error {
  override readonly name = 'MoveRefused'
}

const CONNECT_MS = 5_000
/** An operator's machine that vanishes must not hold locks for longer than a hold may last. */
const SESSION_IDLE_MS = 150_000

/**
 * For all that administrators do in a move: a server that hangs must not keep an operator for ever. To make a
 * subscription waits for transactions of the old server that were open before it.
 */
export const ADMIN_STATEMENT_MS = 120_000

/** One of the two databases, with a session in it. */
export interface Place {
  readonly client: Client
  readonly target: PgTarget
  /** Cuts it, whatever it does. */
  cut(): void
  close(): Promise<void>
}

/**
 * @param what of whom the error speaks
 * @param statementTimeoutMs 0: none, for statements that are as long as a table is large
 * @throws MoveRefused
 */
export async function openPlace(
  what: string,
  target: PgTarget,
  addressPolicy: AddressPolicy | null,
  statementTimeoutMs = 0,
): Promise<Place> {
  let client: Client
  try {
    client = await connectPg(target, {
      ...{ connectTimeoutMs: CONNECT_MS, statementTimeoutMs, addressPolicy },
      applicationName: 'doorman-move',
    })
  } catch (error) {
    const reason = error instanceof Fault ? error.reason : (error as Error).message
    throw new MoveRefused(`${what} cannot be reached: ${reason}`)
  }
  const place: Place = {
    ...{ client, target },
    cut: () => destroyPg(client),
    close: () => closePg(client),
  }
  try {
    await client.query(SESSION)
    await client.query(`SET idle_in_transaction_session_timeout = ${SESSION_IDLE_MS}`)
    return place
  } catch (error) {
    await place.close()
    throw error
  }
}

/** A role and a database that were made for a move, until they are taken away again. */
export interface MadePlace {
  readonly password: string
  /** Both go again, as far as they can. */
  unmake(): Promise<void>
}

/**
 * Makes the role and the database of `wanted` by an administrator's session, with a new password.
 *
 * @param admin in whatever database of that server
 * @throws MoveRefused where either is there already: it may be somebody else's
 */
export async function makePlace(
  admin: PgTarget,
  wanted: { readonly database: string; readonly user: string },
  addressPolicy: AddressPolicy | null,
): Promise<MadePlace> {
  const place = await openPlace('the target server', admin, addressPolicy, ADMIN_STATEMENT_MS)
  const { client } = place
  const [database, user] = [escapeIdentifier(wanted.database), escapeIdentifier(wanted.user)]
  const password = newPassword()
  const drops: string[] = []
  try {
    const { rows } = await client.query<{ what: string }>(
      `SELECT 'role ' || rolname AS what FROM pg_roles WHERE rolname = $1
       UNION ALL SELECT 'database ' || datname FROM pg_database WHERE datname = $2`,
      [wanted.user, wanted.database],
    )
    if (rows.length > 0) {
      const there = rows.map(({ what }) => what).join(', ')
      throw new MoveRefused(
        `the target has ${there} already: use it without --to-admin, or drop it`,
      )
    }
    await client.query(
      `CREATE ROLE ${user} LOGIN PASSWORD ${escapeLiteral(await scramVerifier(password))}`,
    )
    drops.push(`DROP ROLE IF EXISTS ${user}`)
    // An administrator who is no superuser gives away only to roles that it is a member of.
    await client.query(`GRANT ${user} TO CURRENT_USER`)
    await client.query(`CREATE DATABASE ${database} OWNER ${user} TEMPLATE template0`)
    drops.unshift(`DROP DATABASE IF EXISTS ${database} WITH (FORCE)`)
    await client.query(`REVOKE ALL ON DATABASE ${database} FROM PUBLIC`)
    await client.query(`REVOKE ${user} FROM CURRENT_USER`)
  } catch (error) {
    for (const drop of drops) await client.query(drop).catch(() => {})
    throw error
  } finally {
    await place.close()
  }
  return {
    password,
    async unmake() {
      const again = await openPlace('the target server', admin, addressPolicy, ADMIN_STATEMENT_MS)
      try {
        // Only its owner, or a member of it, drops a database.
        await again.client.query(`GRANT ${user} TO CURRENT_USER`)
        for (const drop of drops) await again.client.query(drop)
      } finally {
        await again.close()
      }
    },
  }
}
