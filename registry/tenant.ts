/** A tenant's id: a UUID in lower case. Only `parseTenantId` makes one. */
export type TenantId = string & { readonly __brand: 'TenantId' }

/** Before every id: where a listing in their order begins. */
export const NIL_ID = '00000000-0000-0000-0000-000000000000'

/** A tenant's public name, as typed at login. Only `parseTenantKey` makes one. */
export type TenantKey = string & { readonly __brand: 'TenantKey' }

/** Claim `iss` of a token, compared byte by byte (RFC 7519 section 4.1.1). Only `parseIssuer` makes one. */
export type Issuer = string & { readonly __brand: 'Issuer' }

/** How a request names its tenant: by id from a verified token, by key from a login body. */
export type TenantRef =
  | { readonly by: 'id'; readonly id: TenantId }
  | { readonly by: 'key'; readonly key: TenantKey }

/** How a tenant is looked up: also by the issuer that a token claims, before it is verified. */
export type TenantQuery = TenantRef | { readonly by: 'issuer'; readonly issuer: Issuer }

export type TenantMode = 'shared' | 'dedicated'

/** Words of `tenants.status`; only an active tenant is served. */
export const TENANT_STATUSES = [
  'provisioning',
  'active',
  'maintenance',
  'suspended',
  'archived',
] as const
export type TenantStatus = (typeof TENANT_STATUSES)[number]

/** Where a status may go. A status may always be set again (the call is idempotent). */
const TRANSITIONS = {
  provisioning: ['active', 'archived'],
  active: ['suspended', 'maintenance', 'archived'],
  maintenance: ['active', 'suspended', 'archived'],
  suspended: ['active', 'maintenance', 'archived'],
  archived: ['suspended'],
} as const satisfies Record<TenantStatus, readonly TenantStatus[]>

export function mayMove(from: TenantStatus, to: TenantStatus): boolean {
  return from === to || (TRANSITIONS[from] as readonly TenantStatus[]).includes(to)
}

/** `disable` is for databases on the same host or in tests; `verify-full` checks the certificate. */
export const SSL_MODES = ['disable', 'require', 'verify-full'] as const
export type SslMode = (typeof SSL_MODES)[number]

/** A tenant's own identity provider: its access tokens are good for this tenant and for no other. */
export interface TenantIssuer {
  readonly issuer: Issuer
  /** Where the public keys are. */
  readonly jwksUrl: string
  /** Claim `aud` must name it. */
  readonly audience: string
}

/** A row of the Registry's `tenants` table as the code sees it; the secrets are still encrypted. */
export interface Tenant {
  readonly id: TenantId
  readonly key: TenantKey
  readonly name: string | null
  readonly mode: TenantMode
  readonly status: TenantStatus
  /** Moves on every change of the row; the order of two copies of one tenant. */
  readonly configVersion: number
  readonly db: {
    readonly host: string
    readonly port: number
    readonly name: string
    readonly user: string
    readonly passwordEncrypted: string
    /** null: `verify-full` where DB_SSL_CA is set, else `disable` (the app decides). */
    readonly sslMode: SslMode | null
    /** Budget of connections in the whole fleet, divided by the tenant's replicas; null: DB_POOL_MAX on each. */
    readonly poolMax: number | null
  }
  readonly bucket: {
    readonly provider: string | null
    readonly endpoint: string | null
    readonly region: string | null
    readonly name: string
    /** Objects of the tenant begin with it; null: the bucket is the tenant's alone. */
    readonly prefix: string | null
    readonly accessKeyEncrypted: string | null
    readonly secretKeyEncrypted: string | null
  } | null
  /** A dedicated tenant's own deployment of the app. */
  readonly appUrl: string | null
  readonly plan: string | null
  readonly limits: Readonly<Record<string, unknown>>
  /** null: only the platform's tokens are good for the tenant. */
  readonly tokenIssuer: TenantIssuer | null
  /** Tokens issued before it are refused ("sign everyone out"); milliseconds since the epoch. */
  readonly tokensValidAfterMs: number | null
  readonly schemaVersion: string | null
  /** Until then each of its requests is logged; milliseconds since the epoch, 0: not asked for. */
  readonly debugUntilMs: number
  readonly createdAt: Date
  readonly updatedAt: Date
}

const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/
const KEY = /^[a-z0-9][a-z0-9_-]{0,62}$/
/** As the check of the Registry's column: one spelling, no blanks, no control bytes. */
const ISSUER = /^[\x21-\x7e]{1,255}$/

/** `text` as a tenant id, or null. Upper case is folded, as PostgreSQL does. */
export function parseTenantId(text: unknown): TenantId | null {
  if (typeof text !== 'string' || text.length !== 36) return null
  const id = text.toLowerCase()
  return UUID.test(id) ? (id as TenantId) : null
}

/** `text` as a tenant key, or null. Blanks around it are dropped and upper case is folded. */
export function parseTenantKey(text: unknown): TenantKey | null {
  if (typeof text !== 'string' || text.length > 128) return null
  const key = text.trim().toLowerCase()
  return KEY.test(key) ? (key as TenantKey) : null
}

/** `text` as an issuer's name, or null. */
export function parseIssuer(text: unknown): Issuer | null {
  return typeof text === 'string' && ISSUER.test(text) ? (text as Issuer) : null
}

/** True where a token that was good under `a` is checked by the very same rules under `b`. */
export function isSameIssuer(a: TenantIssuer | null, b: TenantIssuer | null): boolean {
  if (a === b) return true
  return (
    a !== null &&
    b !== null &&
    a.issuer === b.issuer &&
    a.jwksUrl === b.jwksUrl &&
    a.audience === b.audience
  )
}
