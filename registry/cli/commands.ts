import { audited } from '../admin/audited.ts'
import { revokeTenantSessions } from '../admin/sessions.ts'
import { setTenantStatus } from '../admin/status.ts'
import { sharedDatabases } from '../database-place.ts'
import { Fault } from '../lib/errors.ts'
import { revokeTokens } from '../revocation-rows.ts'
import { parseTenantId, type Tenant, type TenantId, type TenantStatus } from '../tenant.ts'
import { eachTenant } from '../tenant-list.ts'
import { writeBucket, writeDb } from '../tenant-write.ts'
import { jtiTokenId, type Revocation, tokenIdOf } from '../token-id.ts'
import {
  bucketInput,
  createTenant,
  dbInput,
  readInput,
  seal,
  sealBucket,
  tenantInput,
} from './create.ts'
import { CliFailure, EXIT, type ExitCode } from './failure.ts'
import { readSecrets } from './input.ts'
import { findListed, type Session } from './session.ts'
import { addUser, closeTenant, connectTenant, userInput } from './users.ts'
import { table, viewListed, viewOne } from './view.ts'

export interface Streams {
  readonly input: NodeJS.ReadableStream & { readonly isTTY?: boolean }
  readonly output: NodeJS.WritableStream
  readonly error: NodeJS.WritableStream
}

export interface DbFlags {
  readonly dbHost?: string
  readonly dbPort?: number
  readonly dbName?: string
  readonly dbUser?: string
  readonly dbSslMode?: string
  readonly dbPoolMax?: number
  readonly allowSharedDatabase?: boolean
}

export interface BucketFlags {
  readonly bucketProvider?: string
  readonly bucketEndpoint?: string
  readonly bucketRegion?: string
  readonly bucketName?: string
  readonly bucketPrefix?: string
}

const DB_SECRETS = ['Database password']
const BUCKET_SECRETS = ['Bucket access key', 'Bucket secret key']

export async function create(
  session: Session,
  key: string,
  flags: DbFlags & BucketFlags & { name?: string; mode?: string; status?: string },
  streams: Streams,
): Promise<ExitCode> {
  const hasBucket = flags.bucketName !== undefined
  const labels = hasBucket ? [...DB_SECRETS, ...BUCKET_SECRETS] : DB_SECRETS
  const plain = {
    ...{ key, name: flags.name, mode: flags.mode, status: flags.status },
    db: { ...dbOf(flags), password: 'x' },
    bucket: hasBucket ? bucketOf(flags) : undefined,
  }
  // Before anyone types a password in vain.
  readInput(tenantInput, plain)
  const [password, accessKey, secretKey] = await readSecrets(labels, streams.input, streams.error)
  const input = readInput(tenantInput, {
    ...plain,
    db: { ...plain.db, password },
    bucket: plain.bucket && { ...plain.bucket, access_key: accessKey, secret_key: secretKey },
  })
  const id = await createTenant(session, input, flags)
  if (id === null) throw new CliFailure(EXIT.exists, `tenant ${input.key} exists already`)
  streams.output.write(`created ${input.key} ${id}\n`)
  return EXIT.ok
}

export async function listTenants(
  session: Session,
  flags: { mode?: string; status?: string; json?: boolean },
  { output }: Streams,
): Promise<ExitCode> {
  const filter = {
    ...(flags.mode !== undefined && { mode: flags.mode as Tenant['mode'] }),
    ...(flags.status !== undefined && { status: flags.status as TenantStatus }),
  }
  const sharing = await sharedDatabases(session.store)
  const rows = []
  for await (const listed of eachTenant(session.store, filter)) {
    rows.push({ ...viewListed(listed), shares_database: sharing.has(listed.id) })
  }
  if (flags.json) {
    output.write(`${JSON.stringify(rows, null, 2)}\n`)
    return EXIT.ok
  }
  const head = ['KEY', 'ID', 'MODE', 'STATUS', 'DATABASE', 'BUCKET', 'SCHEMA', 'NOTE']
  const cells = rows.map(row => [
    ...[row.tenant_key, row.id, row.mode, row.status],
    row.db_name === null ? '-' : `${row.db_host ?? '-'}/${row.db_name}`,
    ...[row.bucket_name ?? '-', row.schema_version ?? '-'],
    [row.shares_database ? 'shares its database' : null, row.problem ?? row.status_reason]
      .filter(note => note !== null)
      .join('; '),
  ])
  output.write(`${table(head, cells)}\n`)
  return EXIT.ok
}

export async function show(
  session: Session,
  name: string,
  flags: { json?: boolean },
  { output }: Streams,
): Promise<ExitCode> {
  const view = viewOne(await findListed(session, name))
  const rows = Object.entries(view).map(([field, value]) => [field, String(value ?? '-')])
  output.write(
    flags.json ? `${JSON.stringify(view, null, 2)}\n` : `${table(['FIELD', 'VALUE'], rows)}\n`,
  )
  return EXIT.ok
}

/** Idempotent: a status that is set already is success. */
export async function setStatus(
  session: Session,
  name: string,
  status: TenantStatus,
  reason: string | null,
  { output }: Streams,
): Promise<ExitCode> {
  const { id } = await findListed(session, name)
  const moved = await setTenantStatus(session, session.actor, id, status, reason)
  output.write(`${moved.tenant_key} is ${moved.status}\n`)
  return EXIT.ok
}

/** Idempotent, but that each call moves the line. */
export async function revokeSessions(
  session: Session,
  name: string,
  { output }: Streams,
): Promise<ExitCode> {
  const { id, key } = await findListed(session, name)
  const { tokens_valid_after: since } = await revokeTenantSessions(session, session.actor, id, null)
  output.write(`${key} refuses sessions begun before ${since}\n`)
  return EXIT.ok
}

/** By its jti, or by the token itself on standard input. */
export async function revokeToken(
  session: Session,
  name: string,
  flags: { jti?: string; expires?: Date },
  streams: Streams,
): Promise<ExitCode> {
  const { id, key } = await findListed(session, name)
  const { jti, expires } = flags
  if (jti !== undefined && expires === undefined) {
    throw new CliFailure(EXIT.usage, '--expires is required with --jti')
  }
  const revocation =
    jti !== undefined && expires !== undefined
      ? { tenantId: id, tokenId: jtiTokenId(jti), expiresAtS: expires.getTime() / 1000 }
      : readRevocation(
          id,
          (await readSecrets(['Token'], streams.input, streams.error))[0] as string,
        )
  const until = new Date(revocation.expiresAtS * 1000).toISOString()
  const details = { token_id: revocation.tokenId, until }
  const entry = { action: 'tenant.revoke_token', tenantId: id, tenantKey: key, details }
  await audited(session, entry, () => revokeTokens(session.store, [revocation]))
  streams.output.write(`${key} refuses token ${revocation.tokenId} until ${until}\n`)
  return EXIT.ok
}

/** Takes what is given and keeps the rest; the password is kept with `keepPassword`. */
export async function setDb(
  session: Session,
  name: string,
  flags: DbFlags & { keepPassword?: boolean },
  streams: Streams,
): Promise<ExitCode> {
  const tenant = await findListed(session, name)
  const { db } = tenant
  if (flags.keepPassword && db.passwordEncrypted === null) {
    throw new CliFailure(EXIT.usage, 'there is no password to keep')
  }
  const [password] = flags.keepPassword
    ? ['(kept)']
    : await readSecrets(DB_SECRETS, streams.input, streams.error)
  const input = readInput(dbInput, {
    // What an older Registry left out is asked for by the name of its option.
    ...defined({ host: db.host, port: db.port, name: db.name, user: db.user }),
    ...{ ssl_mode: db.sslMode, pool_max: db.poolMax },
    ...defined(dbOf(flags)),
    password,
  })
  const keyring = await session.keyring()
  const changed = await writeDb(
    session.store,
    tenant.id,
    {
      ...{ host: input.host, port: input.port, name: input.name, user: input.user },
      passwordEncrypted: flags.keepPassword
        ? null
        : seal(keyring, tenant.id, 'db_password_encrypted', input.password),
      ...{ sslMode: input.ssl_mode, poolMax: input.pool_max },
    },
    tenant.configVersion,
    flags,
  )
  if (changed === null) throw new CliFailure(EXIT.notFound, `there is no tenant ${name}`)
  streams.output.write(`${changed.key} uses database ${changed.db.host}/${changed.db.name}\n`)
  if (changed.problem !== null) streams.error.write(`doorman: still not fit: ${changed.problem}\n`)
  return EXIT.ok
}

/** Replaces the whole bucket, keys included; `none` takes it away. */
export async function setBucket(
  session: Session,
  name: string,
  flags: BucketFlags & { none?: boolean },
  streams: Streams,
): Promise<ExitCode> {
  if (!flags.none && flags.bucketName === undefined) {
    throw new CliFailure(EXIT.usage, '--bucket-name is required (or --none)')
  }
  const tenant = await findListed(session, name)
  if (!flags.none) readInput(bucketInput, bucketOf(flags))
  const [accessKey, secretKey] = flags.none
    ? []
    : await readSecrets(BUCKET_SECRETS, streams.input, streams.error)
  const bucket = flags.none
    ? null
    : sealBucket(
        await session.keyring(),
        tenant.id,
        readInput(bucketInput, {
          ...bucketOf(flags),
          access_key: accessKey,
          secret_key: secretKey,
        }),
      )
  const changed = await writeBucket(session.store, tenant.id, bucket, tenant.configVersion)
  if (changed === null) throw new CliFailure(EXIT.notFound, `there is no tenant ${name}`)
  streams.output.write(`${changed.key} uses bucket ${bucket?.name ?? '-'}\n`)
  return EXIT.ok
}

export async function addOneUser(
  session: Session,
  key: string,
  flags: { email?: string; name?: string; roleId?: number },
  streams: Streams,
): Promise<ExitCode> {
  const plain = { key, email: flags.email, name: flags.name, role_id: flags.roleId }
  readInput(userInput, { ...plain, password: 'not yet read' })
  const [password] = await readSecrets(['Password'], streams.input, streams.error)
  const user = readInput(userInput, { ...plain, password })
  const open = await connectTenant(session, key)
  try {
    const id = await addUser(session, open, user)
    if (id === null) throw new CliFailure(EXIT.exists, `user ${user.email} exists already`)
    streams.output.write(`created ${user.email} ${id}\n`)
    return EXIT.ok
  } finally {
    await closeTenant(open.client)
  }
}

/** What a token says of itself. Its signature is not looked at: to refuse a false one does no harm. */
function readRevocation(tenantId: TenantId, token: string): Revocation {
  const wrong = (what: string) => new CliFailure(EXIT.usage, `the token ${what}`)
  let claims: Record<string, unknown>
  try {
    const payload = Buffer.from(token.split('.')[1] ?? '', 'base64url').toString('utf8')
    claims = JSON.parse(payload) as Record<string, unknown>
  } catch {
    throw wrong('cannot be read')
  }
  const { tenant_id, jti, exp } = claims ?? {}
  if (typeof exp !== 'number' || !Number.isFinite(new Date(exp * 1000).getTime())) {
    throw wrong('has no exp')
  }
  if (parseTenantId(tenant_id) !== tenantId) throw wrong('is of another tenant')
  const tokenId = tokenIdOf(typeof jti === 'string' ? jti : undefined, token)
  return { tenantId, tokenId, expiresAtS: Math.ceil(exp) }
}

const EXIT_CODES: Readonly<Record<string, ExitCode>> = {
  VALIDATION_FAILED: EXIT.usage,
  NOT_FOUND: EXIT.notFound,
}

/** What an error means for whoever typed the command. */
export function explain(error: unknown): { exitCode: ExitCode; text: string } {
  if (error instanceof CliFailure) return { exitCode: error.exitCode, text: error.message }
  if (error instanceof Fault) {
    return { exitCode: EXIT_CODES[error.code] ?? EXIT.failure, text: error.reason }
  }
  return { exitCode: EXIT.failure, text: error instanceof Error ? error.message : String(error) }
}

function dbOf(flags: DbFlags) {
  return {
    host: flags.dbHost,
    port: flags.dbPort,
    name: flags.dbName,
    user: flags.dbUser,
    ssl_mode: flags.dbSslMode,
    pool_max: flags.dbPoolMax,
  }
}

function bucketOf(flags: BucketFlags) {
  return {
    provider: flags.bucketProvider,
    endpoint: flags.bucketEndpoint,
    region: flags.bucketRegion,
    name: flags.bucketName,
    prefix: flags.bucketPrefix,
  }
}

function defined(values: Record<string, unknown>) {
  return Object.fromEntries(Object.entries(values).filter(([, value]) => value != null))
}
