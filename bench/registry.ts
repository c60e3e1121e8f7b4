import { spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import pg from 'pg'
import { startTestPostgres } from '../deploy/local/postgres.ts'
import type { World } from './load/job.ts'
import type { RegistryAccess } from './peers/peer.ts'

const ROOT = fileURLToPath(new URL('..', import.meta.url))
const OUTPUT_CHARS_MAX = 4096

/** A Registry of its own for the run: PostgreSQL, schema, tenants. */
export interface BenchRegistry {
  readonly access: RegistryAccess
  readonly tenants: World['tenants']
  /** What bringing them in took, in milliseconds. */
  readonly seedMs: number
  stop(): Promise<void>
}

/** Tenants come in by the command line's batch mode, as an operator would bring them in. */
export async function startRegistry(tenantCount: number): Promise<BenchRegistry> {
  const postgres = await startTestPostgres()
  try {
    const url = postgres.url('postgres')
    const access = { url, masterKey: randomBytes(32).toString('hex') }
    const env = { TENANT_REGISTRY_DB_URL: url, MASTER_ENCRYPTION_KEY: access.masterKey }
    await runNode(['migrations/registry-migrate.ts'], env, '')
    const lines = Array.from({ length: tenantCount }, (_, i) => renderTenant(i)).join('')
    const startedAt = performance.now()
    await runNode(['registry/cli/main.ts', 'create', '--batch'], env, lines)
    const seedMs = performance.now() - startedAt
    const tenants = await readTenants(url, tenantCount)
    return { access, tenants, seedMs, stop: () => postgres.stop() }
  } catch (error) {
    await postgres.stop()
    throw error
  }
}

function renderTenant(i: number): string {
  const db = {
    host: 'db.example.com',
    port: 5432,
    name: `tenant_${i}`,
    user: `tenant_${i}`,
    password: randomBytes(18).toString('base64url'),
    ssl_mode: 'require',
  }
  return `${JSON.stringify({ key: `tenant-${i}`, name: `Tenant ${i}`, mode: 'shared', db })}\n`
}

async function readTenants(url: string, expected: number): Promise<World['tenants']> {
  const client = new pg.Client({ connectionString: url })
  client.on('error', () => {})
  await client.connect()
  try {
    // The bench has no tenant databases to provision: tenants are as if that were done.
    await client.query(`UPDATE tenants SET status = 'active' WHERE status <> 'active'`)
    const { rows } = await client.query<{ id: string; key: string }>(
      `SELECT id::text, tenant_key AS key FROM tenants ORDER BY length(tenant_key), tenant_key`,
    )
    if (rows.length !== expected) throw new Error(`${rows.length} tenants instead of ${expected}`)
    return rows
  } finally {
    await client.end()
  }
}

async function runNode(
  args: readonly string[],
  env: Record<string, string>,
  input: string,
): Promise<void> {
  const child = spawn(process.execPath, args, { cwd: ROOT, env: { ...process.env, ...env } })
  let output = ''
  const keep = (chunk: Buffer) => {
    output = (output + chunk.toString('utf8')).slice(-OUTPUT_CHARS_MAX)
  }
  child.stdout.on('data', keep)
  child.stderr.on('data', keep)
  child.stdin.on('error', () => {}) // it ended before it read all: the exit code tells
  child.stdin.end(input)
  const [code] = (await once(child, 'close')) as [number | null]
  if (code !== 0) throw new Error(`${args.join(' ')} ended with ${code}: ${output}`)
}
