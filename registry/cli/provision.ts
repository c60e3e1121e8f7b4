import { spawn } from 'node:child_process'
import { join } from 'node:path'
import { z } from 'zod'
import { Fault } from '../lib/errors.ts'
import { listHosts, putHost, removeHost } from '../provision/hosts.ts'
import { type ProvisionDeps, provision, undoProvision } from '../provision/provision.ts'
import { findRun, type ProvisionSpec } from '../provision/runs.ts'
import { SSL_MODES, type TenantId } from '../tenant.ts'
import type { BucketFlags, Streams } from './commands.ts'
import { bucketInput, readInput, tenantInput } from './create.ts'
import { CliFailure, EXIT, type ExitCode } from './failure.ts'
import { readSecrets } from './input.ts'
import type { Session } from './session.ts'
import { addUser, closeTenant, connectTenant, userInput } from './users.ts'
import { table } from './view.ts'

export interface HostFlags {
  readonly host?: string
  readonly port?: number
  readonly adminUser?: string
  readonly adminDb?: string
  readonly sslMode?: string
}

const hostInput = z.strictObject({
  name: z.string().regex(/^[a-z0-9][a-z0-9-]{0,62}$/, 'must be of a-z, 0-9 and -'),
  host: z.string().min(1),
  port: z.int().min(1).max(65_535).default(5432),
  adminUser: z.string().min(1),
  adminDb: z.string().min(1).default('postgres'),
  sslMode: z.enum(SSL_MODES).nullable().default(null),
})

/** Connects before it saves: a password that does not work is of no use later. */
export async function addHost(
  session: Session,
  name: string,
  flags: HostFlags,
  streams: Streams,
): Promise<ExitCode> {
  const host = readInput(hostInput, { name, ...flags })
  const labels = ['Password of the admin role']
  const [password] = await readSecrets(labels, streams.input, streams.error)
  await putHost(session.store, host, password as string, await accessOf(session))
  streams.output.write(`databases can be made on ${name}, ${host.host}:${host.port}\n`)
  return EXIT.ok
}

export async function showHosts(
  session: Session,
  flags: { json?: boolean },
  { output }: Streams,
): Promise<ExitCode> {
  const hosts = await listHosts(session.store)
  const head = ['NAME', 'HOST', 'PORT', 'ADMIN', 'SSL']
  const rows = hosts.map(({ name, host, port, adminUser, sslMode }) => [
    ...[name, host, String(port), adminUser, sslMode ?? '-'],
  ])
  output.write(flags.json ? `${JSON.stringify(hosts, null, 2)}\n` : `${table(head, rows)}\n`)
  return EXIT.ok
}

/** Tenants on it stay as they are. */
export async function dropHost(
  session: Session,
  name: string,
  { output }: Streams,
): Promise<ExitCode> {
  if (!(await removeHost(session.store, name))) {
    throw new CliFailure(EXIT.notFound, `there is no database host ${name}`)
  }
  output.write(`no more databases are made on ${name}\n`)
  return EXIT.ok
}

export interface ProvisionFlags extends BucketFlags {
  readonly on?: string
  readonly name?: string
  readonly mode?: string
  readonly dbName?: string
  readonly dbUser?: string
  readonly dbPoolMax?: number
  readonly adminEmail?: string
  readonly adminName?: string
  readonly roleId?: number
}

/** What PostgreSQL takes without quotes: operators type these names by hand. */
const objectName = z
  .string()
  .regex(/^[a-z_][a-z0-9_]{0,62}$/, 'must be of a-z, 0-9 and _, 63 at most')

export async function provisionTenant(
  session: Session,
  key: string,
  flags: ProvisionFlags,
  env: NodeJS.ProcessEnv,
  streams: Streams,
): Promise<ExitCode> {
  const spec = readSpec(key, flags)
  const labels = [
    ...(spec.admin === null ? [] : ['Password of the first user']),
    ...(spec.bucket === null ? [] : ['Bucket access key', 'Bucket secret key']),
  ]
  const secrets = labels.length === 0 ? [] : await readSecrets(labels, streams.input, streams.error)
  const [password, ...keys] = spec.admin === null ? [undefined, ...secrets] : secrets
  if (spec.admin !== null) readInput(userInput, { ...userOf(spec, spec.admin), password })
  const [accessKey, secretKey] = keys
  const { store } = session
  if ((await findRun(store, spec.key)) === null && (await store.findListed(spec.key)) !== null) {
    throw new CliFailure(EXIT.exists, `tenant ${spec.key} exists already`)
  }
  const deps: ProvisionDeps = {
    ...(await accessOf(session)),
    store,
    migrate: id => migrate(id, env),
    addAdmin: async (tenant, admin) => {
      const client = await connectTenant(session, tenant.id)
      try {
        await addUser(client, readInput(userInput, { ...userOf(spec, admin), password }))
      } finally {
        await closeTenant(client)
      }
    },
    onStep: step => streams.output.write(`${step} …\n`),
  }
  const id = await provision(deps, spec, accessKey && secretKey ? { accessKey, secretKey } : null)
  streams.output.write(`${spec.key} ${id} is active\n`)
  return EXIT.ok
}

export async function undoTenant(
  session: Session,
  key: string,
  { output }: Streams,
): Promise<ExitCode> {
  const deps = { ...(await accessOf(session)), store: session.store }
  if (!(await undoProvision(deps, key))) {
    throw new CliFailure(EXIT.notFound, `${key} is not being made`)
  }
  output.write(`${key}: all taken back\n`)
  return EXIT.ok
}

function readSpec(key: string, flags: ProvisionFlags): ProvisionSpec {
  if (flags.on === undefined)
    throw new CliFailure(EXIT.usage, '--on is required (host-list shows the hosts)')
  const standard = `tenant_${key.toLowerCase().replaceAll('-', '_')}`
  const names = readInput(z.strictObject({ dbName: objectName, dbUser: objectName }), {
    dbName: flags.dbName ?? standard,
    dbUser: flags.dbUser ?? standard,
  })
  const db = { host: 'h', name: names.dbName, user: names.dbUser, password: 'x' }
  const tenant = readInput(tenantInput, {
    ...{ key, name: flags.name, mode: flags.mode },
    db: { ...db, pool_max: flags.dbPoolMax },
  })
  const bucket =
    flags.bucketName === undefined
      ? null
      : readInput(bucketInput, {
          provider: flags.bucketProvider,
          endpoint: flags.bucketEndpoint,
          region: flags.bucketRegion,
          name: flags.bucketName,
          prefix: flags.bucketPrefix,
        })
  return {
    key: tenant.key,
    name: tenant.name,
    mode: tenant.mode,
    host: flags.on,
    database: names.dbName,
    role: names.dbUser,
    poolMax: tenant.db.pool_max,
    bucket: bucket && {
      provider: bucket.provider,
      endpoint: bucket.endpoint,
      region: bucket.region,
      name: bucket.name,
      prefix: bucket.prefix,
    },
    admin:
      flags.adminEmail === undefined
        ? null
        : {
            email: flags.adminEmail.toLowerCase(),
            name: flags.adminName ?? flags.adminEmail,
            roleId: flags.roleId ?? 1,
          },
  }
}

function userOf(
  { key }: ProvisionSpec,
  { email, name, roleId }: NonNullable<ProvisionSpec['admin']>,
) {
  return { key, email, name, role_id: roleId }
}

async function accessOf(session: Session) {
  return {
    keyring: await session.keyring(),
    ca: session.tenantCa,
    addressPolicy: session.addressPolicy,
  }
}

const MIGRATE = join(import.meta.dirname, '../../migrations/tenant-migrate.ts')
const MIGRATE_TIMEOUT_MS = 600_000
const OUTPUT_CHARS_MAX = 2000

/** The fleet's own runner, with its locks and its notes, as a process of its own. */
function migrate(id: TenantId, env: NodeJS.ProcessEnv): Promise<void> {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [MIGRATE, `--tenant-id=${id}`], {
      env,
      stdio: ['ignore', 'pipe', 'pipe'],
      timeout: MIGRATE_TIMEOUT_MS,
      killSignal: 'SIGTERM',
    })
    let output = ''
    const keep = (chunk: Buffer) => {
      output = (output + chunk.toString('utf8')).slice(-OUTPUT_CHARS_MAX)
    }
    child.stdout.on('data', keep)
    child.stderr.on('data', keep)
    child.on('error', reject)
    child.on('close', code => {
      if (code === 0) resolve()
      else reject(new Fault('VALIDATION_FAILED', `the migration failed: ${output.trim()}`))
    })
  })
}
