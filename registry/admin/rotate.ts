import type { Client } from 'pg'
import { type DbConnection, openConnections } from '../connection.ts'
import { type Fault, publicFault, toFault } from '../lib/errors.ts'
import { closePg, connectPg } from '../lib/pg.ts'
import { newPassword, scramVerifier } from '../lib/scram.ts'
import type { TenantId } from '../tenant.ts'
import { parseTenantRow, type TenantRow } from '../tenant-row.ts'
import type { Actor } from './actor.ts'
import { type AuditEntry, addAudit } from './audit.ts'
import { changeOnce, changeTenant, type Expected, requireExpected, stale } from './change.ts'
import type { AdminDeps } from './deps.ts'
import { type TenantItem, tenantItem } from './item.ts'
import { databaseProblem, tenantLimits, tenantTarget } from './probe-database.ts'
import {
  beginRotation,
  endRotation,
  opens,
  requireNoRotation,
  settleRotation,
} from './rotation-record.ts'
import { requireRow, versionOf } from './row.ts'

const ACTION = 'tenant.rotate_credentials'

/** Another tenant that logs in as the same role: the new password would shut it out. */
const SAME_ROLE = `
  SELECT tenant_key FROM tenants WHERE id <> $1 AND lower(db_host) = lower($2)
    AND coalesce(db_port, 5432) = $3 AND db_user = $4 LIMIT 1`

interface Rotation {
  readonly actor: Actor
  readonly id: TenantId
  readonly reason: string | null
  /** As it was before. */
  readonly row: TenantRow
  /** A session of the role, which outlives its password. */
  readonly client: Client
  readonly sealed: string
  readonly verifier: string
}

/**
 * Gives a tenant's role a new random password, by that role itself, and saves it. Sessions that are open
 * stay; apps take the new password with the next context.
 *
 * Two databases cannot commit as one. So the new password is on record first, sealed (rotation-record.ts);
 * then role and row are changed, each in a transaction that is complete but for its commit, and committed
 * right after each other. Whatever fails between the two, or ends this process: which of the two
 * passwords opens the database is tried, and that one is saved.
 *
 * @throws Fault NOT_FOUND, CONFLICT, PRECONDITION_FAILED, CONNECTION_TEST_FAILED where the present password
 *   does not work, or the new one does not: then the old one stands
 */
export async function rotateCredentials(
  deps: AdminDeps,
  actor: Actor,
  id: TenantId,
  reason: string | null,
  expected: Expected = {},
): Promise<TenantItem> {
  await requireNoRotation(deps, id)
  const row = await requireRow(deps.store, id)
  requireExpected(row, expected)
  try {
    return tenantItem(await rotate(deps, actor, row, reason))
  } catch (error) {
    await tellFailure(deps, actor, row, toFault(error))
    throw error
  }
}

async function rotate(
  deps: AdminDeps,
  actor: Actor,
  row: TenantRow,
  reason: string | null,
): Promise<TenantRow> {
  const keyring = await deps.keyring()
  const tenant = parseTenantRow(row)
  const { id } = tenant
  const { db } = openConnections(keyring, tenant)
  await requireOwnRole(deps, id, db)
  const client = await connectAsRole(deps, db)
  try {
    const password = newPassword()
    const sealed = keyring.encrypt(password, { owner: id, column: 'db_password_encrypted' })
    const verifier = await scramVerifier(password)
    await beginRotation(deps.store, id, sealed, actor)
    const rotation = { actor, id, reason, row, client, sealed, verifier }
    const saved = await alterAndSave(deps, rotation)
    await verify(deps, rotation, saved, db.password)
    return saved
  } finally {
    await closePg(client)
  }
}

async function alterAndSave(deps: AdminDeps, rotation: Rotation): Promise<TenantRow> {
  const { actor, id, reason, row, client, sealed, verifier } = rotation
  const change = { actor, action: ACTION, reason, expected: { basedOn: versionOf(row) } }
  try {
    await client.query('BEGIN')
    await alterRole(client, verifier)
    return await deps.store.transaction(async registry => {
      const saved = await changeOnce(registry, id, change, () => ({
        db_password_encrypted: sealed,
      }))
      if (saved === null) throw stale()
      await endRotation(registry, id, sealed)
      await client.query('COMMIT')
      return saved
    })
  } catch (error) {
    await client.query('ROLLBACK').catch(() => {})
    if ((await settleRotation(deps, id)) === 'new') return requireRow(deps.store, id)
    throw error
  }
}

/** A server that asks somebody else for passwords (LDAP, a pooler) takes no notice of the role's. */
async function verify(
  deps: AdminDeps,
  { actor, id, row, client }: Rotation,
  saved: TenantRow,
  oldPassword: string,
): Promise<void> {
  // An answer that says nothing of the password leaves what the server has confirmed.
  if (await opens(deps, saved).catch(() => true)) return
  // One that a person chose may need more than ASCII; the server then makes its own of it.
  const isAscii = /^[\x21-\x7e]+$/.test(oldPassword)
  await alterRole(client, isAscii ? await scramVerifier(oldPassword) : oldPassword)
  const change = { actor, action: ACTION, reason: 'the new password does not work' }
  await changeTenant(deps.store, id, change, () => ({
    db_password_encrypted: row.db_password_encrypted,
  }))
  throw testFailed('the server does not take the new password; the old one stands')
}

/** By the verifier, so that no log of statements shows the password. */
async function alterRole(client: Client, verifier: string): Promise<void> {
  try {
    await client.query(`ALTER ROLE CURRENT_USER PASSWORD ${client.escapeLiteral(verifier)}`)
  } catch (error) {
    const { code } = error as { code?: string }
    throw testFailed(
      code === '42501' ? 'the role may not change its password' : databaseProblem(error)[1],
    )
  }
}

async function connectAsRole(deps: AdminDeps, db: DbConnection): Promise<Client> {
  try {
    return await connectPg(tenantTarget(db, deps), tenantLimits(deps))
  } catch (error) {
    throw testFailed(`${databaseProblem(error)[1]} (with the present password)`)
  }
}

async function requireOwnRole({ store }: AdminDeps, id: TenantId, db: DbConnection): Promise<void> {
  const { rows } = await store.use(client =>
    client.query<{ tenant_key: string }>(SAME_ROLE, [id, db.host, db.port, db.user]),
  )
  const [other] = rows
  if (other === undefined) return
  const text = `Tenant ${other.tenant_key} logs in as the same role; give each its own first.`
  throw publicFault('CONFLICT', text)
}

/** The failure itself must reach the caller, also where the audit cannot be written. */
async function tellFailure(
  { store, log }: AdminDeps,
  actor: Actor,
  row: TenantRow,
  fault: Fault,
): Promise<void> {
  const entry: AuditEntry = {
    actor,
    action: ACTION,
    outcome: 'failed',
    reason: fault.publicMessage,
    tenantId: String(row.id),
    tenantKey: String(row.tenant_key),
  }
  await store
    .use(client => addAudit(client, entry))
    .catch(error => log.warn({ err: error }, 'the audit could not be written'))
}

function testFailed(problem: string): Fault {
  const text = `database: ${problem}`
  return publicFault('CONNECTION_TEST_FAILED', text)
}
