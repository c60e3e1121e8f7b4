import {
  addDatabaseHost,
  hostInput,
  listDatabaseHosts,
  removeDatabaseHost,
} from '../admin/database-hosts.ts'
import { readFields } from '../admin/fields.ts'
import { newTenantId } from '../admin/idempotency.ts'
import { provisionInput, specOf } from '../admin/provision-input.ts'
import { accessOf } from '../admin/provisioning.ts'
import { Fault } from '../lib/errors.ts'
import { beginProvision } from '../provision/begin.ts'
import { migrateByChild } from '../provision/migrate-child.ts'
import { provision } from '../provision/provision.ts'
import { findRun } from '../provision/runs.ts'
import type { ProvisionSpec } from '../provision/spec.ts'
import { TAKE_OVER_MS, type Taken, take } from '../provision/take.ts'
import { undoProvision } from '../provision/undo.ts'
import { findListedTenant } from '../tenant-list.ts'
import type { BucketFlags } from './connection-flags.ts'
import { CliFailure, EXIT, type ExitCode } from './failure.ts'
import { readSecrets } from './input.ts'
import type { Session } from './session.ts'
import type { Streams } from './streams.ts'
import { table } from './view.ts'

export interface HostFlags {
  readonly host?: string
  readonly port?: number
  readonly adminUser?: string
  readonly adminDb?: string
  readonly sslMode?: string
}

/** Connects before it saves: a password that does not work is of no use later. */
export async function addHost(
  session: Session,
  name: string,
  flags: HostFlags,
  streams: Streams,
): Promise<ExitCode> {
  const plain = {
    ...{ name, host: flags.host, port: flags.port, admin_user: flags.adminUser },
    ...{ admin_db: flags.adminDb, ssl_mode: flags.sslMode },
  }
  // Before anyone types a password in vain.
  readFields(hostInput, { ...plain, admin_password: 'x' })
  const labels = ['Password of the admin role']
  const [password] = await readSecrets(labels, streams.input, streams.error)
  const input = readFields(hostInput, { ...plain, admin_password: password })
  await addDatabaseHost(session, session.actor, input, { replaces: true })
  streams.output.write(`databases can be made on ${name}, ${input.host}:${input.port}\n`)
  return EXIT.ok
}

export async function showHosts(
  session: Session,
  flags: { json?: boolean },
  { output }: Streams,
): Promise<ExitCode> {
  const hosts = await listDatabaseHosts(session)
  const head = ['NAME', 'HOST', 'PORT', 'ADMIN', 'SSL', 'TENANTS']
  const rows = hosts.map(({ name, host, port, admin_user, ssl_mode, tenants }) => [
    ...[name, host, String(port), admin_user, ssl_mode ?? '-', String(tenants)],
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
  await removeDatabaseHost(session, session.actor, name)
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

export async function provisionTenant(
  session: Session,
  key: string,
  flags: ProvisionFlags,
  env: NodeJS.ProcessEnv,
  streams: Streams,
): Promise<ExitCode> {
  const plain = inputOf(key, flags)
  const { provision: asked, bucket_name: bucket } = readFields(provisionInput, plain)
  const labels = [
    ...(asked.admin === null ? [] : ['Password of the first user']),
    ...(bucket === undefined ? [] : ['Bucket access key', 'Bucket secret key']),
  ]
  const secrets = labels.length === 0 ? [] : await readSecrets(labels, streams.input, streams.error)
  const [password, ...keys] = asked.admin === null ? [undefined, ...secrets] : secrets
  const [accessKey, secretKey] = keys
  const { admin } = plain.provision
  const input = readFields(provisionInput, {
    ...plain,
    provision: {
      ...plain.provision,
      ...(admin !== undefined && { admin: { ...admin, password } }),
    },
  })
  const spec = specOf(input)
  const { store, actor } = session
  const access = await accessOf(session)
  if (
    (await findRun(store, spec.key)) === null &&
    (await findListedTenant(store, spec.key)) !== null
  ) {
    throw new CliFailure(EXIT.exists, `tenant ${spec.key} exists already`)
  }
  streams.output.write('reserve …\n')
  const given = {
    bucket: accessKey && secretKey ? { accessKey, secretKey } : null,
    password: password ?? null,
  }
  await beginProvision({ ...access, store }, actor, spec, given, newTenantId(actor, null))
  return goOn(session, spec, env, streams)
}

/** Whoever began it, here or by the API: the Registry knows what is to be done. */
export async function resumeTenant(
  session: Session,
  key: string,
  env: NodeJS.ProcessEnv,
  streams: Streams,
): Promise<ExitCode> {
  const run = await findRun(session.store, key)
  if (run === null) throw notBegun(key)
  if (run.isUndoing) {
    throw new Fault('CONFLICT', `${key} is being undone: provision --undo ends that`)
  }
  return goOn(session, run.spec, env, streams)
}

export async function undoTenant(
  session: Session,
  key: string,
  { output }: Streams,
): Promise<ExitCode> {
  const { store, actor } = session
  const access = await accessOf(session)
  const taken = await takeOver(session, key)
  await undoProvision({ ...access, store }, actor, taken, new AbortController().signal)
  output.write(`${key}: all taken back\n`)
  return EXIT.ok
}

async function goOn(
  session: Session,
  spec: ProvisionSpec,
  env: NodeJS.ProcessEnv,
  { output }: Streams,
): Promise<ExitCode> {
  const { store, actor } = session
  const access = await accessOf(session)
  const taken = await takeOver(session, spec.key)
  const deps = {
    ...{ ...access, store, migrate: migrateByChild(env) },
    onStep: (step: string) => {
      if (step !== 'reserve') output.write(`${step} …\n`)
    },
  }
  const id = await provision(deps, actor, taken, new AbortController().signal)
  output.write(`${spec.key} ${id} is active\n`)
  return EXIT.ok
}

/** Waits for a process that was killed just now. @throws CliFailure notFound */
async function takeOver({ store }: Session, key: string): Promise<Taken> {
  const taken = await take(store, key, TAKE_OVER_MS)
  if (taken === null) throw notBegun(key)
  return taken
}

function notBegun(key: string): CliFailure {
  return new CliFailure(EXIT.notFound, `${key} is not being made`)
}

/** As a body of the API has it. */
function inputOf(key: string, flags: ProvisionFlags) {
  if (flags.on === undefined)
    throw new CliFailure(EXIT.usage, '--on is required (host-list shows the hosts)')
  const { adminEmail: email, adminName: name, roleId } = flags
  return {
    ...{ tenant_key: key, name: flags.name, mode: flags.mode },
    ...{ db_name: flags.dbName, db_user: flags.dbUser, db_pool_max: flags.dbPoolMax },
    ...{ bucket_provider: flags.bucketProvider, bucket_endpoint: flags.bucketEndpoint },
    ...{ bucket_region: flags.bucketRegion, bucket_name: flags.bucketName },
    bucket_prefix: flags.bucketPrefix,
    provision: {
      host: flags.on,
      ...(email !== undefined && { admin: { email, name, role_id: roleId } }),
    },
  }
}
