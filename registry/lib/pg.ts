import type { ConnectionOptions } from 'node:tls'
import pg from 'pg'
import type { AddressPolicy } from './address.ts'
import { makeGuardedSocket } from './guarded-socket.ts'

/** Where a PostgreSQL database is. Every part is explicit: nothing falls back to PGHOST or PGDATABASE. */
export interface PgTarget {
  readonly host: string
  readonly port: number
  readonly database: string
  readonly user: string
  readonly password: string
  readonly ssl: false | ConnectionOptions
}

/** Time-outs in milliseconds; each is needed, for node-postgres has none by default. */
export interface PgLimits {
  /** TCP, TLS and login together. */
  readonly connectTimeoutMs: number
  /** The server's `statement_timeout`; a little longer, the client gives up by itself. 0: none. */
  readonly statementTimeoutMs: number
  /** The server's `lock_timeout`; absent: the statement's. */
  readonly lockTimeoutMs?: number
  /** Checked on the address that is really connected to; absent or null: every address goes. */
  readonly addressPolicy?: AddressPolicy | null
  /** Shown in pg_stat_activity. */
  readonly applicationName: string
}

/** How long after the server's time-out the client waits before it gives the connection up. */
const CLIENT_GRACE_MS = 500

/**
 * Reads `postgres://user:password@host:port/database?sslmode=…` (disable, require, verify-full).
 * Without sslmode: verify-full where `ca` (PEM) is given, else no TLS.
 *
 * @throws Error that names the missing part and never the URL, which holds a password
 */
export function parsePgUrl(text: string, ca?: string): PgTarget {
  const url = URL.parse(text)
  if (url === null || !/^postgres(ql)?:$/.test(url.protocol)) {
    throw new Error('a PostgreSQL URL begins with postgres://')
  }
  const part = (value: string, name: string) => {
    const decoded = decodeURIComponent(value)
    if (decoded === '') throw new Error(`the PostgreSQL URL names no ${name}`)
    return decoded
  }
  const mode = url.searchParams.get('sslmode')
  return {
    host: part(url.hostname, 'host').replace(/^\[|\]$/g, ''),
    port: url.port === '' ? 5432 : Number(url.port),
    database: part(url.pathname.slice(1), 'database'),
    user: part(url.username, 'user'),
    password: decodeURIComponent(url.password),
    ssl: sslOptions(mode, ca),
  }
}

/**
 * TLS of a connection. null stands for "not said": verify-full where a CA is at hand, else none.
 *
 * @throws Error on a word that is no mode: a misspelt one must not turn TLS off
 */
export function sslOptions(mode: string | null, ca?: string): false | ConnectionOptions {
  switch (mode ?? (ca === undefined ? 'disable' : 'verify-full')) {
    case 'disable':
      return false
    case 'require':
      // As in libpq: encrypted, and checked only where there is a CA to check against.
      return ca === undefined ? { rejectUnauthorized: false } : { ca, rejectUnauthorized: true }
    case 'verify-full':
      return { ...(ca !== undefined && { ca }), rejectUnauthorized: true }
    default:
      throw new Error('sslmode must be disable, require or verify-full')
  }
}

/** The settings of a client or a pool. */
export function pgConfig(target: PgTarget, limits: PgLimits): pg.ClientConfig {
  const { addressPolicy = null } = limits
  return {
    host: target.host,
    port: target.port,
    database: target.database,
    user: target.user,
    password: target.password,
    ssl: target.ssl,
    application_name: limits.applicationName,
    keepAlive: true,
    keepAliveInitialDelayMillis: 10_000,
    ...(limits.statementTimeoutMs > 0 && {
      statement_timeout: limits.statementTimeoutMs,
      query_timeout: limits.statementTimeoutMs + CLIENT_GRACE_MS,
    }),
    ...(limits.lockTimeoutMs !== undefined && { lock_timeout: limits.lockTimeoutMs }),
    ...(addressPolicy !== null && { stream: () => makeGuardedSocket(addressPolicy) }),
  }
}

/**
 * A connected client of its own. The caller ends it by `closePg`, or by `destroyPg` where it is
 * broken; its errors between queries go to `onError` (without a listener they end the process,
 * brianc/node-postgres#3202).
 *
 * @throws Error within `connectTimeoutMs`, the socket being gone by then
 */
export async function connectPg(
  target: PgTarget,
  limits: PgLimits,
  onError: (error: Error) => void = () => {},
): Promise<pg.Client> {
  const client = new (deadlineClient(limits.connectTimeoutMs))(pgConfig(target, limits))
  client.on('error', onError)
  try {
    await client.connect()
    return client
  } catch (error) {
    destroyPg(client)
    throw error
  }
}

/** Says goodbye, for at most a second: a peer that does not hear it must not hold the caller. */
export async function closePg(client: pg.Client): Promise<void> {
  const timer = setTimeout(() => destroyPg(client), 1000)
  try {
    await client.end()
  } catch {
    destroyPg(client)
  } finally {
    clearTimeout(timer)
  }
}

/** Cuts the connection at once. */
export function destroyPg(client: pg.Client): void {
  socketOf(client).destroy()
}

/**
 * A client class whose `connect` ends within `ms` by cutting its socket. Its own time-out and that of
 * the pool leave the connection behind (brianc/node-postgres#3543).
 */
export function deadlineClient(ms: number): typeof pg.Client {
  class DeadlineClient extends pg.Client {
    override connect(): Promise<this>
    override connect(callback: (err: Error) => void): void
    override connect(callback?: (err: Error) => void): Promise<this> | void {
      if (callback === undefined) {
        return new Promise((resolve, reject) => {
          this.connect(error => (error ? reject(error) : resolve(this)))
        })
      }
      let isSettled = false
      const settle = (error: Error) => {
        if (isSettled) return
        isSettled = true
        clearTimeout(timer)
        callback(error)
      }
      const timer = setTimeout(() => {
        settle(new Error(`no connection to PostgreSQL within ${ms} ms`))
        socketOf(this).destroy()
      }, ms)
      super.connect(settle)
    }
  }
  return DeadlineClient
}

function socketOf(client: object): { destroy(): void } {
  // Not in the types, but stable since pg 7: the pool itself destroys it in the same way.
  return (client as unknown as { connection: { stream: { destroy(): void } } }).connection.stream
}
