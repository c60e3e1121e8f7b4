import { z } from 'zod'
import { Fault } from '../lib/errors.ts'
import { tenantLimitsInput } from '../limits.ts'
import { parseIssuer, parseTenantKey, SSL_MODES, TENANT_STATUSES } from '../tenant.ts'

/** Bounds of the columns: with all of them at their longest a context still fits into 4 KiB (DESIGN 4.2). */
const REASON_CHARS_MAX = 500

/** A line of text: no control bytes, which would break a log line or a header. */
const line = (charsMax: number) =>
  z
    .string('must be a text')
    .min(1, 'must not be empty')
    .max(charsMax, `must have ${charsMax} characters at most`)
    // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is refused
    .regex(/^[^\x00-\x1f\x7f]*$/, 'must have no control characters')

/** A name in DNS, or an address; IPv6 without brackets. */
const host = line(253).regex(/^[A-Za-z0-9_.:%-]+$/, 'must be a host name or an address')

const webUrl = (charsMax: number) =>
  z
    .string('must be a text')
    .max(charsMax, `must have ${charsMax} characters at most`)
    .regex(/^https?:\/\/[\x21-\x7e]+$/, 'must be an http(s) URL')
    .refine(text => {
      const url = URL.parse(text)
      return url !== null && url.username === '' && url.password === '' && url.hash === ''
    }, 'must be an http(s) URL without user name, password and fragment')

const whole = (min: number, max: number) => {
  const message = `must be a whole number from ${min} to ${max}`
  return z.int(message).min(min, message).max(max, message)
}

const oneOf = <const T extends readonly [string, ...string[]]>(words: T) =>
  z.enum(words, `must be one of ${words.join(', ')}`)

export const reason = line(REASON_CHARS_MAX).nullable()

export const tenantKey = z.string('must be a text').transform((text, context) => {
  const key = parseTenantKey(text)
  if (key !== null) return key
  context.addIssue('must be 1 to 63 of a-z, 0-9, - and _, beginning with a letter or digit')
  return z.NEVER
})

const issuer = z.string('must be a text').transform((text, context) => {
  const parsed = parseIssuer(text)
  if (parsed !== null) return parsed
  context.addIssue('must be 1 to 255 printable ASCII characters without blanks')
  return z.NEVER
})

/** What an operator may set, by the names of the columns; a secret by that of its column in the clear. */
export const columns = {
  name: line(200).nullable(),
  mode: oneOf(['shared', 'dedicated']),
  db_host: host,
  db_port: whole(1, 65_535),
  db_name: line(63),
  db_user: line(63),
  db_password: line(256).meta({ writeOnly: true }),
  db_ssl_mode: oneOf(SSL_MODES).nullable(),
  db_pool_max: whole(1, 1000).nullable(),
  bucket_provider: line(32).nullable(),
  bucket_name: line(255).nullable(),
  bucket_region: line(64).nullable(),
  bucket_endpoint: webUrl(255).nullable(),
  bucket_prefix: z
    .string('must be a text')
    .max(255, 'must have 255 characters at most')
    .regex(/^([A-Za-z0-9_][A-Za-z0-9._-]*\/)+$/, 'must end in / and be like "acme/" or "eu/acme/"')
    .nullable(),
  bucket_access_key: line(256).nullable().meta({ writeOnly: true }),
  bucket_secret_key: line(256).nullable().meta({ writeOnly: true }),
  app_url: webUrl(255).nullable(),
  plan: line(64).nullable(),
  limits: tenantLimitsInput,
  token_issuer: issuer.nullable(),
  token_jwks_url: webUrl(2048).nullable(),
  token_audience: z
    .string('must be a text')
    .regex(/^[\x21-\x7e]{1,255}$/, 'must be 1 to 255 printable characters without blanks')
    .nullable(),
} as const

const flags = {
  /** false: details are saved without a test of the database and bucket. */
  verify: z.boolean('must be true or false').default(true),
  /** true: even where another tenant has this database; the two then share their data. */
  allow_shared_database: z.boolean('must be true or false').default(false),
} as const

export const createInput = z.strictObject({
  tenant_key: tenantKey,
  ...z.object(columns).partial().shape,
  db_host: columns.db_host,
  db_name: columns.db_name,
  db_user: columns.db_user,
  db_password: columns.db_password,
  status: oneOf(['provisioning', 'active', 'maintenance', 'suspended']).default('active'),
  ...flags,
})
export type CreateInput = z.output<typeof createInput>

export const patchInput = z.strictObject({
  ...z.object(columns).partial().shape,
  status: oneOf(TENANT_STATUSES).optional(),
  status_reason: reason.optional(),
  tokens_valid_after: z.iso
    .datetime({ offset: true, error: 'must be a time such as 2026-01-31T12:00:00Z' })
    .optional(),
  /** The version that the change was made on: 409 where the tenant has another by now. */
  config_version: whole(0, Number.MAX_SAFE_INTEGER).optional(),
  ...flags,
})
export type PatchInput = z.output<typeof patchInput>

/** Details to be tested in place of those that are saved. */
export const probeInput = z.strictObject({
  ...z.object(columns).partial().omit({
    name: true,
    mode: true,
    app_url: true,
    plan: true,
    limits: true,
    token_issuer: true,
    token_jwks_url: true,
    token_audience: true,
  }).shape,
})
export type ProbeInput = z.output<typeof probeInput>

/** Details of a tenant that is not there yet. */
export const detailsProbeInput = z.strictObject({
  ...probeInput.shape,
  db_host: columns.db_host,
  db_name: columns.db_name,
  db_user: columns.db_user,
  db_password: columns.db_password,
})
export type DetailsProbeInput = z.output<typeof detailsProbeInput>

/**
 * `value` by `schema`.
 *
 * @throws Fault VALIDATION_FAILED naming each field, and quoting no value: it may be a secret
 */
export function readFields<S extends z.ZodType>(schema: S, value: unknown): z.output<S> {
  const read = schema.safeParse(value)
  if (read.success) return read.data
  const problems = read.error.issues.flatMap((issue): Problem[] => {
    const place = issue.path.join('.')
    if (issue.code === 'unrecognized_keys') {
      return issue.keys.map(key => [[place, shown(key)].filter(Boolean).join('.'), 'no such field'])
    }
    const isMissing =
      issue.code === 'invalid_type' &&
      issue.path.length > 0 &&
      valueAt(value, issue.path) === undefined
    if (place === '' && issue.code === 'invalid_type') return [['body', 'must be a JSON object']]
    return [[place || 'body', isMissing ? 'is required' : issue.message]]
  })
  throw wrongFields(problems.slice(0, PROBLEMS_MAX))
}

/** A refusal in the words of `readFields`. */
export function wrongField(name: string, problem: string): Fault {
  return wrongFields([[name, problem]])
}

type Problem = readonly [field: string, text: string]

/** Told of at once. */
const PROBLEMS_MAX = 20

function wrongFields(problems: readonly Problem[]): Fault {
  const text = problems.map(([field, problem]) => `${field}: ${problem}`).join('; ')
  const byField = new Map<string, string>()
  for (const [field, problem] of problems) if (!byField.has(field)) byField.set(field, problem)
  return new Fault('VALIDATION_FAILED', text, {
    publicMessage: text,
    problems: Object.fromEntries(byField),
  })
}

/** A name that a client made up. */
function shown(name: string): string {
  return name.slice(0, 64).replace(/[^\x20-\x7e]/g, '?')
}

function valueAt(value: unknown, path: readonly PropertyKey[]): unknown {
  return path.reduce<unknown>(
    (found, part) => (Object(found) as Record<PropertyKey, unknown>)[part],
    value,
  )
}
