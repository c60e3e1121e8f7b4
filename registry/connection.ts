import { EnvelopeError, type Keyring, type SecretColumn } from './envelope.ts'
import { Fault } from './lib/errors.ts'
import type { SslMode, Tenant } from './tenant.ts'

/** A tenant's database in the clear, as claim `db` of the context carries it. */
export interface DbConnection {
  readonly host: string
  readonly port: number
  readonly name: string
  readonly user: string
  readonly password: string
  readonly ssl: SslMode | null
  readonly pool_max: number | null
}

/** A tenant's bucket in the clear, as claim `bucket` of the context carries it. */
export interface BucketConnection {
  readonly provider: string | null
  readonly endpoint: string | null
  readonly region: string | null
  readonly name: string
  readonly prefix: string | null
  readonly access_key: string | null
  readonly secret_key: string | null
}

export interface TenantConnections {
  readonly db: DbConnection
  readonly bucket: BucketConnection | null
}

/**
 * Decrypts a tenant's secrets. Only the context minter and the fleet runner call it; the result is
 * used at once and never cached or logged.
 *
 * @throws Fault TENANT_CONFIG_INVALID naming the column that does not open
 */
export function openConnections(keyring: Keyring, tenant: Tenant): TenantConnections {
  const open = (ciphertext: string, column: SecretColumn) => {
    try {
      return keyring.decrypt(ciphertext, { owner: tenant.id, column })
    } catch (error) {
      const why = error instanceof EnvelopeError ? error.message : 'decrypt failed'
      throw new Fault('TENANT_CONFIG_INVALID', `tenant ${tenant.id}: ${column}: ${why}`)
    }
  }
  const openOptional = (ciphertext: string | null, column: SecretColumn) =>
    ciphertext === null ? null : open(ciphertext, column)
  const { db, bucket } = tenant
  return {
    db: {
      host: db.host,
      port: db.port,
      name: db.name,
      user: db.user,
      password: open(db.passwordEncrypted, 'db_password_encrypted'),
      ssl: db.sslMode,
      pool_max: db.poolMax,
    },
    bucket: bucket && {
      provider: bucket.provider,
      endpoint: bucket.endpoint,
      region: bucket.region,
      name: bucket.name,
      prefix: bucket.prefix,
      access_key: openOptional(bucket.accessKeyEncrypted, 'bucket_access_key_encrypted'),
      secret_key: openOptional(bucket.secretKeyEncrypted, 'bucket_secret_key_encrypted'),
    },
  }
}
