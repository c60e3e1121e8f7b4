import { z } from 'zod'
import { PASSWORD_BYTES_MAX, PASSWORD_LENGTH_MIN } from '../lib/password.ts'
import { type ProvisionSpec, standardName } from '../provision/spec.ts'
import { columns, reason, tenantKey } from './fields.ts'

/** What PostgreSQL takes without quotes: operators type these names by hand. */
export const objectName = z
  .string('must be a text')
  .regex(/^[a-z_][a-z0-9_]{0,62}$/, 'must be of a-z, 0-9 and _, 63 at most')

const password = z
  .string('must be a text')
  .min(PASSWORD_LENGTH_MIN, `must have at least ${PASSWORD_LENGTH_MIN} characters`)
  .refine(text => Buffer.byteLength(text) <= PASSWORD_BYTES_MAX, 'is too long')
  .meta({ writeOnly: true })

const NAME_CHARS_MAX = 200
const ROLE_ID_MAX = 2_147_483_647
const roleId = `must be a whole number from 1 to ${ROLE_ID_MAX}`

/** A user of a tenant, without its password. */
export const userFields = {
  email: z.email('must be an email address').max(254).toLowerCase(),
  name: z.string('must be a text').min(1, 'must not be empty').max(NAME_CHARS_MAX),
  role_id: z.int(roleId).min(1, roleId).max(ROLE_ID_MAX, roleId),
} as const

/** A tenant whose database is to be made. Absent members of `db_…` get their standard. */
export const provisionInput = z.strictObject({
  tenant_key: tenantKey,
  ...z
    .object(columns)
    .partial()
    .pick({
      ...{ name: true, mode: true, app_url: true, plan: true, limits: true, db_pool_max: true },
      ...{ bucket_provider: true, bucket_name: true, bucket_region: true, bucket_endpoint: true },
      ...{ bucket_prefix: true, bucket_access_key: true, bucket_secret_key: true },
    }).shape,
  db_name: objectName.optional(),
  db_user: objectName.optional(),
  provision: z.strictObject({
    /** Name of a database host. */
    host: z.string('must be the name of a database host').min(1).max(63),
    /** The first user. */
    admin: z
      .strictObject({
        ...userFields,
        name: userFields.name.optional(),
        role_id: userFields.role_id.default(1),
        /** Absent: one is made, and answered this once. */
        password: password.optional(),
      })
      .nullable()
      .default(null),
  }),
})
export type ProvisionInput = z.output<typeof provisionInput>

/** Secrets for a run that goes on; those that are left out stay as they are. */
export const retryBody = z
  .strictObject({
    admin_password: password.optional(),
    bucket_access_key: columns.bucket_access_key.optional(),
    bucket_secret_key: columns.bucket_secret_key.optional(),
  })
  .default({})
export type RetryInput = z.output<typeof retryBody>

export const undoBody = z.strictObject({ reason: reason.default(null) }).default({ reason: null })

export function specOf(input: ProvisionInput): ProvisionSpec {
  const { tenant_key: key, provision, bucket_name: bucketName } = input
  const { host, admin } = provision
  const further = Object.entries({
    ...{ app_url: input.app_url, plan: input.plan, limits: input.limits },
  }).filter(([, value]) => value != null)
  return {
    key,
    name: input.name ?? null,
    mode: input.mode ?? 'shared',
    host,
    database: input.db_name ?? standardName(key),
    role: input.db_user ?? standardName(key),
    poolMax: input.db_pool_max ?? null,
    bucket:
      bucketName == null
        ? null
        : {
            provider: input.bucket_provider ?? null,
            endpoint: input.bucket_endpoint ?? null,
            region: input.bucket_region ?? null,
            name: bucketName,
            prefix: input.bucket_prefix ?? null,
          },
    admin: admin && { email: admin.email, name: admin.name ?? admin.email, roleId: admin.role_id },
    ...(further.length > 0 && { columns: Object.fromEntries(further) }),
  }
}
