import { type ChildProcess, spawn } from 'node:child_process'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import pg from 'pg'
import { childEnv } from '../deploy/local/run.ts'
import { Keyring } from '../registry/envelope.ts'
import { parsePgUrl } from '../registry/lib/pg.ts'
import { RegistryStore } from '../registry/store.ts'
import type { Tenant, TenantKey, TenantStatus } from '../registry/tenant.ts'
import { eachTenant, type ListedTenant } from '../registry/tenant-list.ts'
import { insertTenant } from '../registry/tenant-write.ts'
import { newTenant, silent, startTestRegistry, type TestRegistry } from '../registry/test-kit.ts'
import { runCommand } from './commands.ts'
import { type FleetOptions, type FleetResult, migrateFleet, type TenantOutcome } from './fleet.ts'
import { parseOptions } from './options.ts'

const MASTER = 'a'.repeat(64)
export const PASSWORD = 'pw-SECRET'

/** For tests: a real Registry, and tenants whose databases are copies of one template. */
export interface TestFleet {
  readonly registry: TestRegistry
  readonly store: RegistryStore
  readonly keyring: Keyring
  readonly directory: string
  write(name: string, sql: string): Promise<void>
  remove(name: string): Promise<void>
  addTenants(keys: readonly string[], change?: TenantChange): Promise<readonly Tenant[]>
  /** Makes the databases anew, as the template has them. */
  recreate(keys: readonly string[]): Promise<void>
  list(): Promise<readonly ListedTenant[]>
  /** In this process. */
  run(options?: Partial<FleetOptions>): Promise<FleetRun>
  /** A command in this process; `answer` is what a person says when asked. */
  call(args: readonly string[], answer?: string): Promise<Called>
  /** The real command. */
  command(args: readonly string[], env?: Record<string, string>): Command
  /** Rows of a statement in the database of `key`. */
  query(key: string, sql: string): Promise<readonly Record<string, unknown>[]>
  stop(): Promise<void>
}

export interface TenantChange {
  readonly status?: TenantStatus
  readonly host?: string
  readonly port?: number
  /** As the Registry has it, right or wrong. */
  readonly password?: string
}

export interface FleetRun {
  readonly result: FleetResult
  readonly outcomes: ReadonlyMap<string, TenantOutcome>
}

export interface Called {
  readonly code: number
  readonly stdout: string
  readonly stderr: string
}

export interface Command {
  readonly child: ChildProcess
  /** Lines of standard output so far. */
  readonly lines: readonly string[]
  onLine: (line: string) => void
  readonly done: Promise<{ code: number | null; stdout: string; stderr: string }>
}

export async function startTestFleet(): Promise<TestFleet> {
  const registry = await startTestRegistry()
  const { server, admin } = registry
  const store = new RegistryStore({ url: registry.url, log: silent })
  const keyring = await Keyring.derive([MASTER])
  const directory = await mkdtemp(join(tmpdir(), 'doorman-fleet-'))
  await admin.query(`CREATE ROLE fleet LOGIN PASSWORD '${PASSWORD}'`)
  await admin.query('CREATE DATABASE fleet_template OWNER fleet')
  const create = (key: string) =>
    admin.query(`CREATE DATABASE db_${key} TEMPLATE fleet_template OWNER fleet`)

  const fleet: TestFleet = {
    ...{ registry, store, keyring, directory },
    write: (name, sql) => writeFile(join(directory, name), sql),
    remove: name => rm(join(directory, name)),
    async addTenants(keys, { status = 'active', host = '127.0.0.1', port, password } = {}) {
      const made: Tenant[] = []
      for (const key of keys) {
        await create(key)
        const { id } = newTenant()
        const place = { owner: id, column: 'db_password_encrypted' } as const
        const db = {
          ...{ host, port: port ?? server.port, name: `db_${key}`, user: 'fleet' },
          passwordEncrypted: keyring.encrypt(password ?? PASSWORD, place),
          ...{ sslMode: null, poolMax: null },
        }
        made.push(await insertTenant(store, newTenant({ id, key: key as TenantKey, status, db })))
      }
      return made
    },
    async recreate(keys) {
      for (const key of keys) {
        await admin.query(`DROP DATABASE IF EXISTS db_${key} WITH (FORCE)`)
        await create(key)
      }
    },
    async list() {
      const tenants: ListedTenant[] = []
      for await (const listed of eachTenant(store)) tenants.push(listed)
      return tenants
    },
    async run(options = {}) {
      const outcomes = new Map<string, TenantOutcome>()
      const result = await migrateFleet({
        ...{ store, keyring, directory, tenants: await fleet.list() },
        retries: { count: 0, pauseMs: 1 },
        onDone: outcome => outcomes.set(outcome.tenant.key, outcome),
        ...options,
      })
      return { result, outcomes }
    },
    async call(args, answer) {
      const options = parseOptions(args)
      if (options === 'help') throw new Error('no command')
      const out: string[] = []
      const err: string[] = []
      // As runMain has it.
      const code = await runCommand({
        ...{ options, store, keyring, directory, registry: parsePgUrl(registry.url) },
        signal: new AbortController().signal,
        terminal: {
          out: text => void out.push(text),
          err: text => void err.push(text),
          ...{ bar: null, ask: async () => answer ?? null },
        },
      }).catch((error: Error) => {
        err.push(error.message)
        return 1
      })
      return { code, stdout: out.join('').trimEnd(), stderr: err.join('') }
    },
    command(args, env = {}) {
      const own = { TENANT_REGISTRY_DB_URL: registry.url, MASTER_ENCRYPTION_KEY: MASTER }
      const child = spawn(
        process.execPath,
        [join(import.meta.dirname, 'tenant-migrate.ts'), ...args, '--directory', directory],
        { env: { ...childEnv(), ...own, ...env }, stdio: ['ignore', 'pipe', 'pipe'] },
      )
      const lines: string[] = []
      let stderr = ''
      child.stderr.setEncoding('utf8').on('data', (text: string) => {
        stderr += text
      })
      createInterface({ input: child.stdout }).on('line', line => {
        lines.push(line)
        command.onLine(line)
      })
      const done = new Promise<{ code: number | null; stdout: string; stderr: string }>(resolve => {
        child.on('close', code => resolve({ code, stdout: lines.join('\n'), stderr }))
      })
      const command: Command = { child, lines, done, onLine: () => {} }
      return command
    },
    async query(key, sql) {
      const client = new pg.Client({ connectionString: server.url(`db_${key}`) })
      await client.connect()
      try {
        return (await client.query<Record<string, unknown>>(sql)).rows
      } finally {
        await client.end()
      }
    },
    async stop() {
      await store.close()
      await registry.stop()
      await rm(directory, { recursive: true })
    },
  }
  return fleet
}
