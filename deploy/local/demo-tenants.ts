import { derivePassword, type Keys } from './keys.ts'
import type { S3Grant } from './s3-signature.ts'

export const DEMO_PASSWORD = 'doorman-demo'
export const SHARED_BUCKET = 'shared'

/** A tenant of the embedded system. */
export interface DemoTenant {
  readonly key: string
  readonly name: string
  readonly email: string
  /** Name of its database and of the role that owns it. */
  readonly database: string
  readonly password: string
  readonly bucket: string
  /** In a bucket shared by tenants, its part. */
  readonly prefix: string | null
  readonly bucketKeys: { readonly accessKey: string; readonly secretKey: string }
}

/** `count` tenants: acme with a bucket of its own, globex and the rest sharing one by prefix. */
export function demoTenants(count: number, keys: Keys): DemoTenant[] {
  return Array.from({ length: count }, (_, i) => {
    const key = ['acme', 'globex'][i] ?? `demo-${String(i + 1).padStart(3, '0')}`
    return {
      key,
      name: ['Acme', 'Globex'][i] ?? `Demo ${i + 1}`,
      email: `admin@${key}.example`,
      database: `tenant_${key.replaceAll('-', '_')}`,
      password: derivePassword(keys, `db:${key}`),
      bucket: i === 0 ? key : SHARED_BUCKET,
      prefix: i === 0 ? null : `${key}/`,
      bucketKeys: {
        accessKey: `DEMO${key.replaceAll('-', '').toUpperCase()}`,
        secretKey: derivePassword(keys, `s3:${key}`),
      },
    }
  })
}

/** What each tenant's pair of keys opens. */
export function demoGrants(tenants: readonly DemoTenant[]): S3Grant[] {
  return tenants.map(({ bucketKeys, bucket, prefix }) => ({
    ...bucketKeys,
    buckets: [bucket],
    ...(prefix !== null && { prefix }),
  }))
}
