import { writeBucket, writeDb } from '../tenant-write.ts'
import {
  BUCKET_SECRETS,
  type BucketFlags,
  bucketOf,
  DB_SECRETS,
  type DbFlags,
  dbOf,
} from './connection-flags.ts'
import { bucketInput, dbInput, readInput, seal, sealBucket } from './create.ts'
import { CliFailure, EXIT, type ExitCode } from './failure.ts'
import { readSecrets } from './input.ts'
import { findListed, type Session } from './session.ts'
import type { Streams } from './streams.ts'

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

function defined(values: Record<string, unknown>) {
  return Object.fromEntries(Object.entries(values).filter(([, value]) => value != null))
}
