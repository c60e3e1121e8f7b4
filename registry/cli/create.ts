import { randomUUID } from 'node:crypto'
import { z } from 'zod'
import type { Keyring, SecretColumn } from '../envelope.ts'
import { Fault } from '../lib/errors.ts'
import { parseTenantKey, SSL_MODES, type TenantId, type TenantKey } from '../tenant.ts'
import { findListedTenant } from '../tenant-list.ts'
import { insertTenant, type NewBucket, type PlacementOptions } from '../tenant-write.ts'
import {
  BUCKET_SECRETS,
  type BucketFlags,
  bucketOf,
  DB_SECRETS,
  type DbFlags,
  dbOf,
} from './connection-flags.ts'
import { CliFailure, EXIT, type ExitCode } from './failure.ts'
import { readSecrets } from './input.ts'
import type { Session } from './session.ts'
import type { Streams } from './streams.ts'

export const bucketInput = z.strictObject({
  provider: z.string().min(1).nullable().default(null),
  endpoint: z
    .url({ protocol: /^https?$/, error: 'must be an http(s) URL' })
    .nullable()
    .default(null),
  region: z.string().min(1).nullable().default(null),
  name: z.string().min(1),
  prefix: z
    .string()
    .regex(/^([A-Za-z0-9_][A-Za-z0-9._-]*\/)+$/, 'must end in / and be like "acme/" or "eu/acme/"')
    .nullable()
    .default(null),
  access_key: z.string().min(1).nullable().default(null),
  secret_key: z.string().min(1).nullable().default(null),
})

export const dbInput = z.strictObject({
  host: z.string().min(1),
  port: z.int().min(1).max(65_535).default(5432),
  name: z.string().min(1),
  user: z.string().min(1),
  password: z.string().min(1),
  ssl_mode: z.enum(SSL_MODES).nullable().default(null),
  pool_max: z.int().min(1).max(1000).nullable().default(null),
})

/** A tenant as `create` takes it from its options, and `create --batch` from a line. */
export const tenantInput = z.strictObject({
  key: z.string().transform((text, context) => {
    const key = parseTenantKey(text)
    if (key !== null) return key
    context.addIssue('must be 1 to 63 of a-z, 0-9, - and _, beginning with a letter or digit')
    return z.NEVER
  }),
  name: z.string().min(1).nullable().default(null),
  mode: z.enum(['shared', 'dedicated']).default('shared'),
  status: z.enum(['provisioning', 'active', 'maintenance', 'suspended']).default('active'),
  db: dbInput,
  bucket: bucketInput.nullable().default(null),
})
export type TenantInput = z.output<typeof tenantInput>

/** `create`. */
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

/** @returns the new tenant's id; null where a tenant with this key exists already */
export async function createTenant(
  session: Session,
  input: TenantInput,
  options: PlacementOptions,
): Promise<TenantId | null> {
  if (await exists(session, input.key)) return null
  const keyring = await session.keyring()
  const id = randomUUID() as string as TenantId
  const { db, bucket } = input
  try {
    const tenant = {
      id,
      key: input.key,
      name: input.name,
      mode: input.mode,
      status: input.status,
      db: {
        host: db.host,
        port: db.port,
        name: db.name,
        user: db.user,
        passwordEncrypted: seal(keyring, id, 'db_password_encrypted', db.password),
        sslMode: db.ssl_mode,
        poolMax: db.pool_max,
      },
      bucket: bucket && sealBucket(keyring, id, bucket),
    }
    await insertTenant(session.store, tenant, options)
    return id
  } catch (error) {
    // Someone else was faster; any other conflict (a database or bucket in use) is a failure.
    if (error instanceof Fault && error.code === 'CONFLICT' && (await exists(session, input.key))) {
      return null
    }
    throw error
  }
}

export function sealBucket(
  keyring: Keyring,
  id: TenantId,
  bucket: z.output<typeof bucketInput>,
): NewBucket {
  const { provider, endpoint, region, name, prefix, access_key, secret_key } = bucket
  return {
    provider,
    endpoint,
    region,
    name,
    prefix,
    accessKeyEncrypted:
      access_key === null ? null : seal(keyring, id, 'bucket_access_key_encrypted', access_key),
    secretKeyEncrypted:
      secret_key === null ? null : seal(keyring, id, 'bucket_secret_key_encrypted', secret_key),
  }
}

export function seal(keyring: Keyring, id: TenantId, column: SecretColumn, secret: string): string {
  return keyring.encrypt(secret, { owner: id, column })
}

/** `value` by `schema`; what is wrong is named by its path, and no value is quoted. */
export function readInput<S extends z.ZodType>(schema: S, value: unknown): z.output<S> {
  const read = schema.safeParse(value)
  if (read.success) return read.data
  const problems = read.error.issues.map(({ path, message }) => `${path.join('.')}: ${message}`)
  throw new CliFailure(EXIT.usage, problems.join('; '))
}

/** There, though maybe not fit to be served. */
async function exists({ store }: Session, key: TenantKey): Promise<boolean> {
  return (await findListedTenant(store, key)) !== null
}
