import { z } from 'zod'
import { STEPS } from '../../provision/spec.ts'
import type { DatabaseHostItem } from '../database-hosts.ts'
import type { Accepted, Provisioning } from '../provisioning.ts'

/** What the API answers of the making of tenants; the types of the service keep it true. */
const provisioning = {
  tenant_id: z.uuid(),
  tenant_key: z.string(),
  action: z.enum(['provision', 'undo']),
  state: z.enum(['running', 'failed', 'interrupted', 'done']),
  step: z.string().nullable(),
  steps: z.array(z.enum(STEPS)),
  error: z.strictObject({ code: z.string(), message: z.string() }).nullable(),
  database_host: z.string().nullable(),
  started_at: z.iso.datetime().nullable(),
  updated_at: z.iso.datetime().nullable(),
} as const

export const provisioningResult = z.strictObject(provisioning) satisfies z.ZodType<
  Omit<Provisioning, 'steps'>
>

export const acceptedResult = z.strictObject({
  ...provisioning,
  /** One that was made up for the first user; never again. */
  admin_password: z.string().nullable(),
}) satisfies z.ZodType<Omit<Accepted, 'steps'>>

export const hostResult = z.strictObject({
  name: z.string(),
  host: z.string(),
  port: z.int(),
  admin_user: z.string(),
  admin_db: z.string(),
  ssl_mode: z.string().nullable(),
  tenants: z.int(),
  created_at: z.iso.datetime(),
  updated_at: z.iso.datetime(),
}) satisfies z.ZodType<DatabaseHostItem>

export const hostsResult = z.strictObject({ items: z.array(hostResult) })

export const hostRemovedResult = z.strictObject({ name: z.string() })
