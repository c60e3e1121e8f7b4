import { ListObjectsV2Command } from '@aws-sdk/client-s3'
import type { AdminDeps } from './admin/deps.ts'
import { databaseProblem, tenantLimits, tenantTarget } from './admin/probe-database.ts'
import { type BucketConnection, type DbConnection, openConnections } from './connection.ts'
import { makeBucketClient } from './lib/bucket-client.ts'
import { withDeadline } from './lib/deadline.ts'
import { Fault } from './lib/errors.ts'
import { closePg, connectPg } from './lib/pg.ts'
import { eachTenant, type ListedTenant } from './tenant-list.ts'

export interface SweepOptions {
  /** Tenants measured at one time, and of those on one database server. */
  readonly atOnce: number
  readonly perHost: number
  /** Of one tenant's bucket; it has as many pages as objects make. */
  readonly tenantMs: number
  /** Once aborted no other tenant is begun. */
  readonly signal?: AbortSignal
}

export interface Measured {
  readonly id: string
  readonly key: string
  /** null: it could not be measured, and `problem` says why. */
  readonly database_bytes: number | null
  /** null: as before, or the tenant has no bucket. */
  readonly bucket_bytes: number | null
  readonly problem: string | null
}

const SWEPT_STATUSES: ReadonlySet<string> = new Set(['active', 'maintenance', 'suspended'])
const CONNECT_TIMEOUT_MS = 5000
const IDLE_TIMEOUT_MS = 30_000

const DATABASE_BYTES = 'SELECT pg_database_size(current_database()) AS bytes'

/**
 * Today's level; what was not measured this time stays as it was. A row is made where the tenant was not used today, with
 * all counts 0.
 */
const WRITE = `
  INSERT INTO customer_usage_daily AS daily
    (tenant_id, date, database_bytes, bucket_bytes, storage_gb, storage_measured_at)
  VALUES ($1, (now() AT TIME ZONE 'UTC')::date, $2::bigint, $3::bigint,
    (coalesce($2::bigint, 0) + coalesce($3::bigint, 0)) / 1e9, now())
  ON CONFLICT (tenant_id, date) DO UPDATE SET
    database_bytes = coalesce(excluded.database_bytes, daily.database_bytes),
    bucket_bytes = CASE WHEN $4 THEN coalesce(excluded.bucket_bytes, daily.bucket_bytes) END,
    storage_gb = (coalesce(excluded.database_bytes, daily.database_bytes, 0)
      + CASE WHEN $4 THEN coalesce(excluded.bucket_bytes, daily.bucket_bytes, 0) ELSE 0 END) / 1e9,
    storage_measured_at = now()`

/**
 * Measures what each tenant stores, and writes it as today's level. One that fails stops no other.
 *
 * @returns when all are done or `signal` was aborted
 */
export async function sweepUsage(
  deps: AdminDeps,
  options: SweepOptions,
  onMeasured: (measured: Measured) => void,
): Promise<void> {
  const queues = new Map<string, ListedTenant[]>()
  for await (const tenant of eachTenant(deps.store)) {
    if (!SWEPT_STATUSES.has(tenant.status)) continue
    const host = `${tenant.db.host?.toLowerCase() ?? ''}:${tenant.db.port ?? 5432}`
    const queue = queues.get(host)
    if (queue === undefined) queues.set(host, [tenant])
    else queue.push(tenant)
  }
  const gate = new Slots(options.atOnce)
  const lanes = [...queues.values()].flatMap(queue =>
    Array.from({ length: Math.min(options.perHost, queue.length) }, async () => {
      for (let tenant = queue.shift(); tenant !== undefined; tenant = queue.shift()) {
        await gate.enter()
        try {
          if (options.signal?.aborted) return
          onMeasured(await measure(deps, tenant, options))
        } finally {
          gate.leave()
        }
      }
    }),
  )
  await Promise.all(lanes)
}

async function measure(
  deps: AdminDeps,
  { id, key, tenant, problem }: ListedTenant,
  { tenantMs }: SweepOptions,
): Promise<Measured> {
  const nothing = { id, key, database_bytes: null, bucket_bytes: null }
  if (tenant === null) return { ...nothing, problem: problem ?? 'the row cannot be read' }
  try {
    const { db, bucket } = openConnections(await deps.keyring(), tenant)
    const problems: string[] = []
    const late = () => new Error(`not done within ${tenantMs} ms`)
    const [database_bytes, bucket_bytes] = await Promise.all([
      databaseBytes(db, deps).catch(error => {
        problems.push(`database: ${databaseProblem(error)[1]}`)
        return null
      }),
      bucket === null
        ? null
        : bucketBytes(bucket, deps, late, tenantMs).catch(error => {
            problems.push(`bucket: ${bucketProblem(error)}`)
            return null
          }),
    ])
    if (database_bytes !== null || bucket_bytes !== null) {
      const values = [id, database_bytes, bucket_bytes, bucket !== null]
      await deps.store.query(WRITE, values)
    }
    const told = problems.length === 0 ? null : problems.join('; ')
    return { id, key, database_bytes, bucket_bytes, problem: told }
  } catch (error) {
    return { ...nothing, problem: error instanceof Fault ? error.reason : 'cannot be measured' }
  }
}

async function databaseBytes(db: DbConnection, deps: AdminDeps): Promise<number> {
  const client = await connectPg(tenantTarget(db, deps), tenantLimits(deps))
  try {
    const { rows } = await client.query<{ bytes: string }>(DATABASE_BYTES)
    return Number(rows[0]?.bytes)
  } finally {
    await closePg(client)
  }
}

/** All objects of the tenant: those below its prefix, where it shares the bucket. */
async function bucketBytes(
  place: BucketConnection,
  deps: AdminDeps,
  late: () => Error,
  tenantMs: number,
): Promise<number> {
  const client = makeBucketClient(place, {
    connectMs: CONNECT_TIMEOUT_MS,
    idleMs: IDLE_TIMEOUT_MS,
    socketsMax: 1,
    addressPolicy: deps.addressPolicy,
  })
  const over = new AbortController()
  const count = async () => {
    let bytes = 0
    let token: string | undefined
    do {
      const page = await client.send(
        new ListObjectsV2Command({
          Bucket: place.name,
          ...(place.prefix !== null && { Prefix: place.prefix }),
          ...(token !== undefined && { ContinuationToken: token }),
        }),
        { abortSignal: over.signal },
      )
      for (const { Size = 0 } of page.Contents ?? []) bytes += Size
      token = page.IsTruncated === true ? page.NextContinuationToken : undefined
    } while (token !== undefined)
    return bytes
  }
  try {
    return await withDeadline(count(), tenantMs, late)
  } finally {
    over.abort()
    client.destroy()
  }
}

/** By kind alone: a storage's own words may repeat what it was sent. */
function bucketProblem(error: unknown): string {
  if (error instanceof Fault) return error.reason
  const { name = '', $metadata } = error as {
    name?: string
    $metadata?: { httpStatusCode?: number }
  }
  const status = $metadata?.httpStatusCode
  if (status !== undefined) return `the storage answers ${status}`
  return name === 'TimeoutError' || /not done within/.test(String(error))
    ? 'the storage takes too long'
    : 'the storage cannot be reached'
}

/** So many at a time, whoever comes first. */
class Slots {
  readonly #waiting: (() => void)[] = []
  #free: number

  constructor(free: number) {
    this.#free = free
  }

  async enter(): Promise<void> {
    if (this.#free > 0) this.#free--
    else await new Promise<void>(resolve => this.#waiting.push(resolve))
  }

  leave(): void {
    const next = this.#waiting.shift()
    if (next === undefined) this.#free++
    else next()
  }
}
