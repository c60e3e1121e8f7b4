import { DEMO_PASSWORD, type DemoTenant } from './demo-tenants.ts'
import { run } from './run.ts'

export interface SeedOptions {
  readonly root: string
  /** With TENANT_REGISTRY_DB_URL and MASTER_ENCRYPTION_KEY. */
  readonly env: NodeJS.ProcessEnv
  readonly tenants: readonly DemoTenant[]
  /** Keys of tenants that an earlier start finished. */
  readonly done: readonly string[]
  readonly postgresPort: number
  readonly s3Endpoint: string
  readonly signal: AbortSignal
  readonly onStep: (text: string) => void
  /** Role that makes databases of further tenants there; absent: nobody does. */
  readonly maker?: { readonly name: string; readonly password: string }
}

const COMMAND_MS = 300_000
const CLI = 'registry/cli/main.ts'

/**
 * Brings the Registry to this release, and makes the demo tenants and their first users by the same
 * commands that an operator uses. What exists is left as it is.
 *
 * @returns the keys of all tenants that are complete
 * @throws Error with the output of the command that failed
 */
export async function seed(options: SeedOptions): Promise<string[]> {
  const { tenants, done, onStep } = options
  onStep('Registry: migrating')
  await command(options, ['migrations/registry-migrate.ts'])
  onStep(`Tenants: ${tenants.length}`)
  const lines = tenants.map(tenant => tenantLine(tenant, options))
  const { stdout } = await command(options, [CLI, 'create', '--batch'], lines)
  const created = new Set([...stdout.matchAll(/^created (\S+)/gm)].map(match => match[1]))
  onStep('Tenant databases: migrating')
  await command(options, ['migrations/tenant-migrate.ts'])
  // One that was created by a start that was cut short may lack its user still.
  const unfinished = tenants.filter(({ key }) => created.has(key) || !done.includes(key))
  if (unfinished.length > 0) {
    onStep(`Demo users: ${unfinished.length}`)
    await command(options, [CLI, 'add-user', '--batch'], unfinished.map(userLine))
  }
  if (options.maker !== undefined) {
    onStep('Database host: local')
    // Of an earlier start, with another port, it is replaced.
    const place = ['--host', '127.0.0.1', '--port', String(options.postgresPort)]
    const role = ['--admin-user', options.maker.name, '--ssl-mode', 'disable']
    await command(options, [CLI, 'host-add', 'local', ...place, ...role], options.maker.password)
  }
  return tenants.map(({ key }) => key)
}

function tenantLine(tenant: DemoTenant, { postgresPort, s3Endpoint }: SeedOptions): object {
  const { key, name, database, password, bucket, prefix, bucketKeys } = tenant
  return {
    key,
    name,
    mode: 'shared',
    db: {
      host: '127.0.0.1',
      port: postgresPort,
      name: database,
      user: database,
      password,
      ssl_mode: 'disable',
    },
    bucket: {
      provider: 's3',
      endpoint: s3Endpoint,
      region: 'us-east-1',
      name: bucket,
      prefix,
      access_key: bucketKeys.accessKey,
      secret_key: bucketKeys.secretKey,
    },
  }
}

function userLine({ key, email, name }: DemoTenant): object {
  return { key, email, name: `${name} Admin`, role_id: 1, password: DEMO_PASSWORD }
}

/** Secrets go in as JSON lines, or as a line, on standard input: arguments can be read by every user. */
async function command(
  { root, env, signal }: SeedOptions,
  args: readonly string[],
  lines: readonly object[] | string = [],
) {
  const input =
    typeof lines === 'string'
      ? `${lines}\n`
      : lines.map(line => `${JSON.stringify(line)}\n`).join('')
  const end = await run(process.execPath, args, COMMAND_MS, { cwd: root, env, signal, input })
  if (end.code === 0) return end
  throw new Error(`${args.join(' ')} failed (exit code ${end.code}):\n${end.output.trim()}`)
}
