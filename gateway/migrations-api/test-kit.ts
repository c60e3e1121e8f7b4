import { spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { join } from 'node:path'
import pg from 'pg'
import { createDatabases } from '../../deploy/local/databases.ts'
import { childEnv } from '../../deploy/local/run.ts'
import { createAdminKey } from '../../registry/admin/keys.ts'
import { makeLog } from '../../registry/lib/log.ts'
import type { Tenant } from '../../registry/tenant.ts'
import { type RunningGateway, startGateway, startWorld, until, type World } from '../test-kit.ts'

/** For tests: a fleet with real databases, and the admin API of real gateways. */
export interface MigrationWorld {
  readonly world: World
  /** The Registry. */
  readonly sql: pg.Pool
  readonly keys: { readonly own: string; readonly operate: string; readonly read: string }
  gateway(): Promise<RunningGateway>
  /** Tenants `t1` …, each with an empty database. */
  addTenants(count: number): Promise<readonly Tenant[]>
  /** Empties the databases, so that all is to be done again. */
  reset(): Promise<void>
  /** Holds the runner up at the database of `key`, until it is released. */
  hold(key: string): Promise<() => Promise<void>>
  /** Tables in the database of `key`. */
  tables(key: string): Promise<number>
  /** The runner by the command line. */
  runner(args: readonly string[]): { readonly done: Promise<number | null> }
  close(): Promise<void>
}

export interface Answer {
  readonly status: number
  readonly fields: Headers
  readonly code: string | undefined
  readonly message: string
  // biome-ignore lint/suspicious/noExplicitAny: what the test expects of it stands there
  readonly result: any
}

export async function startMigrationWorld(): Promise<MigrationWorld> {
  const world = await startWorld()
  const own = `marker-key-${randomBytes(16).toString('hex')}`
  const env = {
    ...world.env,
    APP_UPSTREAMS: 'http://127.0.0.1:1',
    ADMIN_API_KEY: own,
    LOG_LEVEL: 'info',
    DRAIN_TIMEOUT_MS: '10000',
  }
  const sql = new pg.Pool({ connectionString: world.registryUrl, max: 3 })
  sql.on('error', () => {})
  const owner = { name: 'test', scope: 'own', requestId: null } as const
  const deps = { store: world.store, log: makeLog('test', 'silent') }
  const operate = await createAdminKey(deps, owner, 'operator', 'operate')
  const read = await createAdminKey(deps, owner, 'reader', 'read')
  const gateways: RunningGateway[] = []
  const tenants: Tenant[] = []
  const inDatabase = async <T>(key: string, work: (client: pg.Client) => Promise<T>) => {
    const client = new pg.Client({ connectionString: world.postgres.url(`db_${key}`) })
    client.on('error', () => {})
    await client.connect()
    try {
      return await work(client)
    } finally {
      await client.end()
    }
  }
  return {
    ...{ world, sql, keys: { own, operate, read } },
    async gateway() {
      const gateway = await startGateway(env)
      gateways.push(gateway)
      return gateway
    },
    async addTenants(count) {
      const names = Array.from({ length: count }, (_, i) => `t${tenants.length + i + 1}`)
      for (const key of names) {
        await createDatabases(world.postgres, [
          { name: `db_${key}`, password: `password-of-${key}` },
        ])
        const made = await world.createTenant(key)
        await sql.query('UPDATE tenants SET db_user = db_name WHERE id = $1', [made.id])
        tenants.push(made)
      }
      return tenants.slice(-count)
    },
    async reset() {
      for (const { key } of tenants) {
        await inDatabase(key, async client => {
          await client.query(
            `DROP SCHEMA public CASCADE; CREATE SCHEMA public AUTHORIZATION "db_${key}"`,
          )
        })
      }
    },
    async hold(key) {
      const client = new pg.Client({ connectionString: world.postgres.url(`db_${key}`) })
      client.on('error', () => {})
      await client.connect()
      await client.query(`SELECT pg_advisory_lock(hashtextextended('doorman_migrations', 0))`)
      return () => client.end()
    },
    tables: key =>
      inDatabase(key, async client => {
        const { rows } = await client.query(
          `SELECT count(*)::int AS n FROM pg_tables WHERE schemaname = 'public'`,
        )
        return rows[0].n
      }),
    runner(args) {
      const child = spawn(
        process.execPath,
        [join(import.meta.dirname, '../../migrations/tenant-migrate.ts'), ...args],
        { env: { ...childEnv(), ...world.env }, stdio: 'ignore' },
      )
      return { done: new Promise(resolve => child.once('close', resolve)) }
    },
    async close() {
      await Promise.all(gateways.map(gateway => gateway.stop('SIGKILL')))
      // What outlived its gateway loses the Registry and all databases here, and ends.
      await sql.end()
      await world.close()
    },
  }
}

/** Processes start here, on machines that do other things as well. */
export const WAIT_MS = 30_000

/** Waits for what takes a process, a heartbeat or both. */
export function untilSo(condition: () => boolean | Promise<boolean>): Promise<void> {
  return until(condition, WAIT_MS)
}

/** A call of the admin API. */
export async function call(
  at: RunningGateway,
  method: string,
  path: string,
  options: { key?: string | null; body?: unknown; headers?: Record<string, string> } = {},
): Promise<Answer> {
  const { key = null, body, headers = {} } = options
  const response = await fetch(`${at.internalUrl}/api/admin${path}`, {
    method,
    headers: {
      ...(key === null ? {} : { authorization: `Bearer ${key}` }),
      ...(body === undefined ? {} : { 'content-type': 'application/json' }),
      ...headers,
    },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  })
  const text = await response.text()
  const json = text === '' ? {} : JSON.parse(text)
  const { status, headers: fields } = response
  return { status, fields, code: json.code, message: json.message, result: json.result }
}

export interface SeenEvent {
  readonly id: string
  readonly event: string
  // biome-ignore lint/suspicious/noExplicitAny: as above
  readonly data: any
}

export interface EventReader {
  readonly status: number
  readonly contentType: string | null
  readonly events: readonly SeenEvent[]
  /** Resolves when the server ends the stream. */
  readonly ended: Promise<void>
  leave(): void
}

/** The event stream of a run. */
export async function watch(
  at: RunningGateway,
  id: string,
  key: string,
  lastId?: string,
): Promise<EventReader> {
  const controller = new AbortController()
  const response = await fetch(`${at.internalUrl}/api/admin/migrations/runs/${id}/events`, {
    headers: {
      authorization: `Bearer ${key}`,
      ...(lastId === undefined ? {} : { 'last-event-id': lastId }),
    },
    signal: controller.signal,
  })
  const events: SeenEvent[] = []
  const ended = (async () => {
    let text = ''
    for await (const chunk of response.body ?? []) {
      text += Buffer.from(chunk).toString('utf8')
      const blocks = text.split('\n\n')
      text = blocks.pop() ?? ''
      for (const block of blocks) {
        const fields = new Map(
          block.split('\n').map(line => {
            const [name = '', ...rest] = line.split(': ')
            return [name, rest.join(': ')]
          }),
        )
        const data = fields.get('data')
        if (data === undefined) continue
        const [event, eventId] = [fields.get('event') ?? '', fields.get('id') ?? '']
        events.push({ id: eventId, event, data: JSON.parse(data) })
      }
    }
  })()
  ended.catch(() => {})
  return {
    ...{
      status: response.status,
      contentType: response.headers.get('content-type'),
      events,
      ended,
    },
    leave: () => controller.abort(),
  }
}

/** Waits until the run is in one of `states`. */
export async function awaitState(
  at: RunningGateway,
  id: string,
  key: string,
  states: readonly string[],
  ms = WAIT_MS,
): Promise<Answer> {
  let last: Answer | undefined
  await until(async () => {
    last = await call(at, 'GET', `/migrations/runs/${id}`, { key })
    return states.includes(last.result.state)
  }, ms).catch(error => {
    throw new Error(`${error.message}: ${JSON.stringify(last?.result)}`)
  })
  return last as Answer
}
