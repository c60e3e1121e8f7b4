import type { S3Client } from '@aws-sdk/client-s3'
import type { BucketConnection } from '../../registry/connection.ts'
import type { ContextClaims } from '../../registry/context.ts'
import type { AddressPolicy } from '../../registry/lib/address.ts'
import { makeBucketClient } from '../../registry/lib/bucket-client.ts'
import { Fault } from '../../registry/lib/errors.ts'
import type { AppState } from '../../registry/live/answers.ts'
import type { TenantId } from '../../registry/tenant.ts'
import { Breaker, type BreakerOptions } from './breaker.ts'
import { bucketVerdict } from './bucket-error.ts'
import { fingerprint } from './fingerprint.ts'
import type { KitEvents } from './kit-events.ts'
import { normalPrefix } from './object-name.ts'

export interface BucketOptions {
  /** For tenants without a bucket of their own: each gets the prefix `<tenant id>/`. */
  readonly defaultBucket: BucketConnection | null
  readonly clientsMax: number
  readonly clientIdleMs: number
  readonly connectMs: number
  /** Longest silence of the storage. */
  readonly idleMs: number
  /** Connections per client. */
  readonly socketsMax: number
  readonly breaker: BreakerOptions
  readonly addressPolicy: AddressPolicy | null
}

/** The right to use one S3 client for the time of one operation, its stream included. */
export interface BucketLease {
  readonly client: S3Client
  readonly bucket: string
  /** Every key begins with it; empty where the bucket is the tenant's alone. */
  readonly prefix: string
  /** What came of the operation, null where all went well; to be called before `release`. */
  settle(fault: Fault | null): void
  /** To be called once; a further call does nothing. */
  release(): void
}

interface Entry {
  readonly client: S3Client
  readonly breaker: Breaker
  /** What opened the breaker. */
  lastFault: Fault | null
  leases: number
  lastUsedAt: number
}

/** The S3 clients of all tenants of this replica, found by verified claims alone, as the pools are. */
export class TenantBuckets {
  readonly #options: BucketOptions
  readonly #events: KitEvents
  /** Least recently used first. */
  readonly #entries = new Map<string, Entry>()
  readonly #sweeper: NodeJS.Timeout
  #isClosed = false

  constructor(options: BucketOptions, events: KitEvents) {
    this.#options = options
    this.#events = events
    this.#sweeper = setInterval(() => this.#sweep(), Math.min(options.clientIdleMs, 10_000))
    this.#sweeper.unref()
  }

  get clients(): number {
    return this.#entries.size
  }

  /** Operations that use a client now, their streams included. */
  get leases(): number {
    return [...this.#entries.values()].reduce((sum, entry) => sum + entry.leases, 0)
  }

  get breakersOpen(): number {
    return [...this.#entries.values()].filter(({ breaker }) => !breaker.isClosed).length
  }

  /** The client of the tenant's own bucket, by its newest keys; null: none is open. */
  stateOf(tenant: TenantId): AppState['bucket'] {
    const own = [...this.#entries].filter(([key]) => key.startsWith(`${tenant}:`))
    const [, entry] = own.at(-1) ?? []
    if (entry === undefined) return null
    return { leases: entry.leases, breaker: entry.breaker.isClosed ? 'closed' : 'open' }
  }

  /** @throws Fault TENANT_BUCKET_MISSING, TENANT_CONFIG_INVALID, TENANT_BUCKET_UNAVAILABLE */
  lease(claims: ContextClaims): BucketLease {
    if (this.#isClosed) throw new Fault('SHUTTING_DOWN', 'the bucket clients are closed')
    const { defaultBucket } = this.#options
    const place = claims.bucket ?? defaultBucket
    if (place === null) throw new Fault('TENANT_BUCKET_MISSING', 'no bucket and no default bucket')
    // Tenants that share the default bucket share its client, and never a key.
    const owner = claims.bucket === null ? 'default' : claims.tid
    const prefix = claims.bucket === null ? `${claims.tid}/` : normalPrefix(claims.bucket.prefix)
    const key = `${owner}:${fingerprint([
      place.provider,
      place.endpoint,
      place.region,
      place.access_key,
      place.secret_key,
    ])}`
    const entry = this.#entries.get(key) ?? this.#add(place)
    this.#entries.delete(key)
    this.#entries.set(key, entry)
    const { breaker } = entry
    const now = Date.now()
    if (!breaker.mayTry(now)) throw brokenFault(entry, now)
    const attempt = breaker.begin(now)
    entry.leases += 1
    let isReleased = false
    return {
      client: entry.client,
      bucket: place.name,
      prefix,
      settle: fault => {
        const isWorking = fault === null || bucketVerdict(fault)
        if (isWorking === null) breaker.forget(attempt)
        else if (isWorking) breaker.succeed()
        else {
          entry.lastFault = fault
          if (breaker.fail(attempt, Date.now())) this.#events.broke('bucket')
        }
      },
      release: () => {
        if (isReleased) return
        isReleased = true
        entry.leases -= 1
        entry.lastUsedAt = Date.now()
      },
    }
  }

  close(): void {
    this.#isClosed = true
    clearInterval(this.#sweeper)
    for (const { client } of this.#entries.values()) client.destroy()
    this.#entries.clear()
  }

  #add(place: BucketConnection): Entry {
    if (this.#entries.size >= this.#options.clientsMax) {
      const idle = [...this.#entries].find(([, entry]) => entry.leases === 0)
      if (idle === undefined) {
        throw new Fault('TENANT_BUCKET_UNAVAILABLE', 'every bucket client of the replica is in use')
      }
      this.#remove(idle[0], idle[1])
    }
    return {
      client: makeBucketClient(place, this.#options),
      breaker: new Breaker(this.#options.breaker),
      lastFault: null,
      leases: 0,
      lastUsedAt: Date.now(),
    }
  }

  #sweep(): void {
    const oldest = Date.now() - this.#options.clientIdleMs
    for (const [key, entry] of this.#entries) {
      if (entry.leases === 0 && entry.lastUsedAt < oldest) this.#remove(key, entry)
    }
  }

  #remove(key: string, entry: Entry): void {
    this.#entries.delete(key)
    entry.client.destroy()
  }
}

function brokenFault({ breaker, lastFault }: Entry, nowMs: number): Fault {
  return new Fault('TENANT_BUCKET_UNAVAILABLE', `breaker open: ${lastFault?.reason}`, {
    retryAfterS: breaker.retryAfterS(nowMs),
    tenantFault: lastFault?.tenantFault,
  })
}
