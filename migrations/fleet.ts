import { openConnections } from '../registry/connection.ts'
import type { Keyring } from '../registry/envelope.ts'
import type { AddressPolicy } from '../registry/lib/address.ts'
import { Fault } from '../registry/lib/errors.ts'
import { type PgTarget, sslOptions } from '../registry/lib/pg.ts'
import type { ListedTenant, RegistryStore } from '../registry/store.ts'
import type { Tenant } from '../registry/tenant.ts'
import { type MigrateResult, migrate } from './runner.ts'

/** Databases migrated at one time, and of those on one server (DESIGN 5). */
const AT_ONCE = 8
const AT_ONCE_PER_HOST = 2
const CONNECT_TIMEOUT_MS = 3000

export interface FleetOptions {
  readonly store: Pick<RegistryStore, 'setSchemaVersion'>
  readonly keyring: Keyring
  readonly tenants: AsyncIterable<ListedTenant> | Iterable<ListedTenant>
  /** Folder of the tenant migrations. */
  readonly directory: string
  /** PEM of the CA of the tenant databases. */
  readonly ca?: string
  /** Where tenants' databases may be; absent or null: anywhere. */
  readonly addressPolicy?: AddressPolicy | null
  readonly onDone: (outcome: TenantOutcome) => void
  readonly runnerWaitMs?: number
}

export interface TenantOutcome {
  readonly tenant: ListedTenant
  readonly result: 'ok' | 'failed' | 'skipped'
  readonly before: string | null
  readonly after: string | null
  readonly durationMs: number
  /** Why it failed or was skipped, or what the migration warned of. */
  readonly note: string | null
}

/**
 * Migrates the tenants' databases, each with the tenant's own role; one that fails does not stop the
 * others. Returns how many failed. Archived tenants are skipped; suspended ones are not, lest they come
 * back with an old schema.
 */
export async function migrateFleet(options: FleetOptions): Promise<number> {
  const hosts = new HostSlots()
  const running = new Set<Promise<void>>()
  let failed = 0
  const run = async (listed: ListedTenant) => {
    const outcome = await migrateTenant(options, listed)
    if (outcome.result === 'failed') failed += 1
    options.onDone(outcome)
  }
  // A tenant whose host is busy waits here without holding one of the slots.
  const waiting: ListedTenant[] = []
  const startNext = () => {
    for (let i = 0; i < waiting.length && running.size < AT_ONCE; ) {
      const listed = waiting[i] as ListedTenant
      const host = hostOf(listed)
      if (!hosts.take(host)) {
        i += 1
        continue
      }
      waiting.splice(i, 1)
      const job = run(listed).finally(() => {
        hosts.give(host)
        running.delete(job)
      })
      running.add(job)
    }
  }
  for await (const listed of options.tenants) {
    waiting.push(listed)
    startNext()
    // Bounded: the listing waits while the fleet is busy.
    while (waiting.length >= AT_ONCE * 32) {
      await Promise.race(running)
      startNext()
    }
  }
  while (running.size > 0) {
    await Promise.race(running)
    startNext()
  }
  return failed
}

async function migrateTenant(options: FleetOptions, listed: ListedTenant): Promise<TenantOutcome> {
  const startedAt = performance.now()
  const done = (result: TenantOutcome['result'], note: string | null, run?: MigrateResult) => ({
    tenant: listed,
    result,
    // The database's word where it was asked; what the Registry noted is a memory of it.
    before: run === undefined ? (listed.tenant?.schemaVersion ?? null) : run.before,
    after: run?.after ?? null,
    durationMs: Math.round(performance.now() - startedAt),
    note,
  })
  const { tenant } = listed
  if (listed.status === 'archived') return done('skipped', 'archived')
  if (tenant === null) return done('failed', listed.problem)
  try {
    const { directory, ca, addressPolicy = null, runnerWaitMs } = options
    const run = await migrate({
      target: targetOf(options.keyring, tenant, ca),
      directory,
      addressPolicy,
      connectTimeoutMs: CONNECT_TIMEOUT_MS,
      ...(runnerWaitMs !== undefined && { runnerWaitMs }),
    })
    if (run.after !== null && run.after !== tenant.schemaVersion) {
      await options.store.setSchemaVersion(tenant.id, run.after)
    }
    const notes = [...run.warnings]
    if (run.isAhead) notes.push('newer than this release')
    if (listed.status !== 'active') notes.push(listed.status)
    return done('ok', notes.length === 0 ? null : notes.join('; '), run)
  } catch (error) {
    return done('failed', reasonOf(error))
  }
}

function targetOf(keyring: Keyring, tenant: Tenant, ca: string | undefined): PgTarget {
  const { db } = openConnections(keyring, tenant)
  return {
    host: db.host,
    port: db.port,
    database: db.name,
    user: db.user,
    password: db.password,
    ssl: sslOptions(db.ssl, ca),
  }
}

function hostOf({ tenant }: ListedTenant): string {
  return tenant === null ? '' : `${tenant.db.host}:${tenant.db.port}`
}

function reasonOf(error: unknown): string {
  if (error instanceof Fault) return error.reason
  return error instanceof Error ? error.message : String(error)
}

/** Counts what runs per database server. */
class HostSlots {
  readonly #taken = new Map<string, number>()

  take(host: string): boolean {
    const taken = this.#taken.get(host) ?? 0
    if (taken >= AT_ONCE_PER_HOST) return false
    this.#taken.set(host, taken + 1)
    return true
  }

  give(host: string): void {
    const taken = (this.#taken.get(host) ?? 1) - 1
    if (taken === 0) this.#taken.delete(host)
    else this.#taken.set(host, taken)
  }
}
