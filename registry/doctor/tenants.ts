import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { probeDatabase, tenantLimits, tenantTarget } from '../admin/probe-database.ts'
import { openConnections } from '../connection.ts'
import { sharedDatabases } from '../database-place.ts'
import { keyIdOf } from '../envelope.ts'
import { Fault } from '../lib/errors.ts'
import { closePg, connectPg } from '../lib/pg.ts'
import { whyUnopened } from '../rewrap.ts'
import { countSecrets, sampleSecrets } from '../stored-secrets.ts'
import type { Tenant } from '../tenant.ts'
import { eachTenant } from '../tenant-list.ts'
import { type Finding, fail, ok, type Patient, some, warn } from './finding.ts'

const SCHEMA = join(import.meta.dirname, '../../migrations/tenant')
const SAMPLE = 20
/** Tenants' databases that are connected to at a time. */
const PROBES_MAX = 8
const MIGRATE = 'npm run db:tenant-migrate'

export async function checkMasterKey({ deps }: Patient): Promise<readonly Finding[]> {
  const { store } = deps
  const keyring = await deps.keyring().catch(error => (error as Error).message)
  if (typeof keyring === 'string') {
    return [fail('master key', keyring, 'give the key that the Registry was encrypted with')]
  }
  const column = 'db_password_encrypted'
  const unopened = (await sampleSecrets(store, SAMPLE)).filter(
    ({ owner, ciphertext }) => whyUnopened(keyring, owner, column, ciphertext) !== null,
  )
  const uses = await countSecrets(store)
  const counts = uses.map(({ keyId, secrets }) => `${secrets} of ${keyId ?? 'the older tool'}`)
  const text = counts.length === 0 ? 'no secrets yet' : `secrets: ${counts.join(', ')}`
  if (unopened.length > 0) {
    const owners = unopened.map(({ owner, ciphertext }) => `${owner} (${keyIdOf(ciphertext)})`)
    const todo = 'decrypt-check lists all; mend them by set-db and set-bucket'
    return [fail('master key', `does not open: ${some(owners)}; ${text}`, todo)]
  }
  const lacking = uses.filter(({ keyId }) => keyId !== null && !keyring.keyIds.includes(keyId))
  if (lacking.length > 0) {
    const todo = 'give the missing key in MASTER_ENCRYPTION_KEY_PREVIOUS, then rotate-master-key'
    return [fail('master key', text, todo)]
  }
  const isOne = uses.every(({ keyId }) => keyId === keyring.currentKeyId)
  return [isOne ? ok('master key', text) : warn('master key', text, 'rotate-master-key')]
}

/** Rows, schema versions, shared databases; then, unless it is to be quick, the databases themselves. */
export async function checkTenants(patient: Patient): Promise<readonly Finding[]> {
  const { deps, isQuick } = patient
  const newest = await newestSchema()
  const shared = await sharedDatabases(deps.store)
  const fit: Tenant[] = []
  const notes = { unfit: [], behind: [], shared: [] } as Record<string, string[]>
  let count = 0
  for await (const { id, key, status, tenant, problem } of eachTenant(deps.store)) {
    count += 1
    if (shared.has(id)) notes.shared?.push(key)
    if (tenant === null) notes.unfit?.push(`${key} (${status}): ${problem}`)
    else if (status !== 'archived' && status !== 'provisioning') {
      fit.push(tenant)
      if ((tenant.schemaVersion ?? '') < newest) notes.behind?.push(key)
    }
  }
  const { unfit = [], behind = [], shared: sharing = [] } = notes
  const findings = [
    unfit.length === 0
      ? ok('rows', `${count} tenants, all fit to be served`)
      : fail('rows', some(unfit), 'mend them by set-db, set-bucket and edit'),
    behind.length === 0
      ? ok('schema', `all at ${newest}`)
      : warn('schema', `behind ${newest}: ${some(behind)}`, MIGRATE),
    sharing.length === 0
      ? ok('shared databases', 'none')
      : warn('shared databases', some(sharing), 'give each its own: these see each other’s data'),
  ]
  if (isQuick) return [...findings, ok('databases', 'not looked at (--quick)')]
  return [...findings, await checkDatabases(patient, fit), ...(await checkLimits(patient, fit))]
}

async function checkDatabases({ deps }: Patient, tenants: readonly Tenant[]): Promise<Finding> {
  const keyring = await deps.keyring()
  const failed: string[] = []
  await eachOf(tenants, async tenant => {
    try {
      const { ok: works, message } = await probeDatabase(openConnections(keyring, tenant).db, deps)
      if (!works) failed.push(`${tenant.key}: ${message}`)
    } catch (error) {
      if (!(error instanceof Fault)) throw error
      failed.push(`${tenant.key}: ${error.reason}`)
    }
  })
  if (failed.length === 0) return ok('databases', `all ${tenants.length} can be used`)
  return fail('databases', some(failed.sort()), 'test KEY tells which part fails')
}

/** What all tenants of a server may open at most, against what it takes. */
async function checkLimits(
  { deps, around }: Patient,
  tenants: readonly Tenant[],
): Promise<readonly Finding[]> {
  const servers = new Map<string, Tenant[]>()
  for (const tenant of tenants) {
    const place = `${tenant.db.host.toLowerCase()}:${tenant.db.port}`
    servers.set(place, [...(servers.get(place) ?? []), tenant])
  }
  const findings: Finding[] = []
  await eachOf([...servers], async ([place, there]) => {
    const wanted = there.reduce(
      (sum, { db }) => sum + (db.poolMax ?? around.spread * around.poolMax),
      0,
    )
    const room = await connectionsOf(deps, there)
    const text = `${place}: ${there.length} tenants may open ${wanted} of ${room ?? 'unknown'}`
    const todo = 'lower db_pool_max or DB_POOL_MAX, or raise max_connections'
    const isFit = room === null || wanted <= room
    findings.push(isFit ? ok('connections', text) : warn('connections', text, todo))
  })
  return findings.sort((a, b) => (a.text < b.text ? -1 : 1))
}

const ROOM = `SELECT current_setting('max_connections')::int
  - current_setting('superuser_reserved_connections')::int AS room`

/** Connections that a server has for others than superusers; null where none of some tenants can ask. */
async function connectionsOf(
  deps: Patient['deps'],
  tenants: readonly Tenant[],
): Promise<number | null> {
  const keyring = await deps.keyring()
  for (const tenant of tenants.slice(0, 3)) {
    try {
      const { db } = openConnections(keyring, tenant)
      const client = await connectPg(tenantTarget(db, deps), tenantLimits(deps))
      try {
        return Number((await client.query(ROOM)).rows[0]?.room)
      } finally {
        await closePg(client)
      }
    } catch {
      // The check of the databases has told why.
    }
  }
  return null
}

async function newestSchema(): Promise<string> {
  const names = (await readdir(SCHEMA)).filter(name => name.endsWith('.sql')).sort()
  return names.at(-1)?.slice(0, 4) ?? ''
}

async function eachOf<T>(items: readonly T[], work: (item: T) => Promise<void>): Promise<void> {
  const queue = items.values()
  const worker = async () => {
    for (const item of queue) await work(item)
  }
  await Promise.all(Array.from({ length: Math.min(PROBES_MAX, items.length) }, worker))
}
