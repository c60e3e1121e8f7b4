import { z } from 'zod'
import { TENANT_STATUSES } from '../../tenant.ts'
import { DEBUG_MINUTES_MAX } from '../debug.ts'
import { reason } from '../fields.ts'
import { SORT_ORDERS } from '../list.ts'

const PAGE_DEFAULT = 50
const PAGE_MAX = 200
/** Further on a cursor is needed: an OFFSET reads all that it leaves out. */
const PAGES_MAX = 10_000

const word = (charsMax: number) =>
  z.string('must be given once').max(charsMax, `must have ${charsMax} characters at most`)
const whole = (min: number, max: number) =>
  z
    .string('must be given once')
    .regex(/^\d{1,9}$/, `must be a whole number from ${min} to ${max}`)
    .transform(Number)
    .refine(n => n >= min && n <= max, `must be a whole number from ${min} to ${max}`)
const oneOf = <const T extends readonly [string, ...string[]]>(words: T) =>
  z.enum(words, `must be one of ${words.join(', ')}`)

const paging = {
  limit: whole(1, PAGE_MAX).default(PAGE_DEFAULT),
  cursor: word(1024).optional(),
}

const tenants = {
  mode: oneOf(['shared', 'dedicated']).optional(),
  status: oneOf(TENANT_STATUSES).optional(),
  q: word(128).optional(),
  sort: oneOf(SORT_ORDERS as unknown as ['tenant_key', ...typeof SORT_ORDERS]).default(
    'tenant_key',
  ),
  ...paging,
  page: whole(1, PAGES_MAX).optional(),
}

const month = z
  .string('must be given once')
  .regex(/^20\d\d-(0[1-9]|1[0-2])$/, 'must be a month such as 2026-01')
  .optional()

/** Two ways to name a page: one of them. */
const isOnePage = ({ page, cursor }: { page?: unknown; cursor?: unknown }) =>
  page === undefined || cursor === undefined
const NOT_BOTH = { path: ['page'], message: 'page or cursor, not both' }

export const listQuery = z.strictObject(tenants).refine(isOnePage, NOT_BOTH)

export const usageListQuery = z.strictObject({ ...tenants, month }).refine(isOnePage, NOT_BOTH)

export const auditQuery = z.strictObject({
  actor: word(128).optional(),
  action: word(64).optional(),
  ...paging,
})

export const usageQuery = z.strictObject({ month, daily: oneOf(['true', 'false']).optional() })

/** Of what moves a tenant; the body may be left out. */
export const reasonBody = z.strictObject({ reason: reason.default(null) }).default({ reason: null })

export const debugBody = z.strictObject({
  minutes: z
    .int(`must be a whole number from 1 to ${DEBUG_MINUTES_MAX}`)
    .min(1, `must be a whole number from 1 to ${DEBUG_MINUTES_MAX}`)
    .max(DEBUG_MINUTES_MAX, `must be a whole number from 1 to ${DEBUG_MINUTES_MAX}`),
  reason: reason.unwrap(),
})

export const removeBody = z
  .strictObject({
    confirm: z.string('must be the key of the tenant').optional(),
    force: z.boolean('must be true or false').optional(),
    reason: reason.default(null),
  })
  .default({ reason: null })

/** Some clients send no body with a DELETE. */
export const removeQuery = z.strictObject({
  confirm: word(128).optional(),
  force: oneOf(['true', 'false']).optional(),
})

export const statementsQuery = z.strictObject({
  month: month.unwrap(),
  limit: whole(1, PAGE_MAX).default(PAGE_DEFAULT),
  cursor: z.uuid('must be next_cursor of a page').optional(),
})

export const statementQuery = z.strictObject({ month: month.unwrap() })

export const freezeBody = z.strictObject({
  month: month.unwrap(),
  after: z.uuid('must be next of the call before').nullable().default(null),
})
