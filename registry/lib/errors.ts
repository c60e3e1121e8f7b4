import { messageForLog } from './log-error.ts'
import { TENANT_FAULT_HEADER, type TenantFault } from './tenant-fault.ts'

/**
 * The one code table of Doorman: every answer that the gateway or the app makes itself when a request
 * fails carries one of these codes. `blame` decides who is paged, `message` is all that a client sees,
 * `check` is the first thing that an operator looks at (deploy/runbook.md has a heading per code).
 */
export type Blame = 'client' | 'platform' | 'upstream' | 'tenant'

interface ErrorSpec {
  readonly status: number
  readonly blame: Blame
  readonly message: string
  readonly check: string
  /** Seconds for Retry-After. Present on every 429 and 503 (DESIGN 4.1). */
  readonly retryAfterS?: number
  /** Name, value, …: what the status asks an answer to carry. */
  readonly fields?: readonly string[]
}

export const ERRORS = {
  // What a client sent.
  ROUTE_NOT_FOUND: {
    status: 404,
    blame: 'client',
    message: 'No such route.',
    check: 'The path and method against the route table (ROUTES_FILE, gateway/route.ts).',
  },
  BAD_REQUEST: {
    status: 400,
    blame: 'client',
    message: 'The request is malformed.',
    check: 'The reason in the access log: framing, a duplicate field, or a forbidden byte.',
  },
  METHOD_NOT_ALLOWED: {
    status: 405,
    blame: 'client',
    message: 'The method is not allowed.',
    check: 'What the client sends: a method outside the list in gateway/admit-head.ts.',
    // RFC 9110 section 15.5.6.
    fields: ['allow', 'GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS'],
  },
  WEBSOCKET_VERSION_UNSUPPORTED: {
    status: 426,
    blame: 'client',
    message: 'The WebSocket version is not supported.',
    check: 'The client: only version 13 (RFC 6455) is spoken.',
    // RFC 6455 section 4.4, RFC 9110 section 15.5.22.
    fields: ['sec-websocket-version', '13', 'upgrade', 'websocket', 'connection', 'upgrade'],
  },
  TARGET_INVALID: {
    status: 400,
    blame: 'client',
    message: 'The request target is not in canonical form.',
    check: 'Dot segments, encoded slashes, double slashes or non-ASCII bytes in the path.',
  },
  HEADERS_TOO_LARGE: {
    status: 431,
    blame: 'client',
    message: 'The request header fields are too large or too many.',
    check: 'HEAD_BYTES_MAX and HEAD_FIELDS_MAX; a client that piles up cookies.',
  },
  BODY_INVALID: {
    status: 400,
    blame: 'client',
    message: 'The request body could not be parsed.',
    check: 'The body against its content type: JSON or urlencoded, no duplicate tenant_key.',
  },
  BODY_TOO_LARGE: {
    status: 413,
    blame: 'client',
    message: 'The request body is too large.',
    check:
      'LOGIN_BODY_BYTES_MAX for login routes; body_bytes of the tenant; the limits of the app.',
  },
  BODY_TYPE_UNSUPPORTED: {
    status: 415,
    blame: 'client',
    message: 'The content type of the request body is not supported.',
    check: 'The content-type and content-encoding that the client sends.',
  },
  REQUEST_TIMEOUT: {
    status: 408,
    blame: 'client',
    message: 'The request took too long to arrive.',
    check: 'Slow clients or a slow-body attack; BODY_IDLE_TIMEOUT_MS.',
  },
  VALIDATION_FAILED: {
    status: 400,
    blame: 'client',
    message: 'The request is not valid.',
    check: 'The message names the field.',
  },
  TENANT_KEY_MISSING: {
    status: 400,
    blame: 'client',
    message: 'tenant_key is required.',
    check: 'Login body, x-tenant-key, query tenant_key, or the subdomain of APP_DOMAIN.',
  },
  TENANT_KEY_INVALID: {
    status: 400,
    blame: 'client',
    message: 'tenant_key is not valid.',
    check: 'A tenant key is 1 to 63 of a-z, 0-9, - and _.',
  },
  TOKEN_MISSING: {
    status: 401,
    blame: 'client',
    message: 'A bearer token is required.',
    check: 'The Authorization header of the client.',
  },
  TOKEN_INVALID: {
    status: 401,
    blame: 'client',
    message: 'The token is not valid.',
    check: 'The reason in the access log; JWT secrets equal on gateway and app.',
  },
  TOKEN_EXPIRED: {
    status: 401,
    blame: 'client',
    message: 'The token has expired.',
    check: 'Nothing, unless clocks differ by more than 30 s. EXPIRED_TOKEN_STATUS sets the status.',
  },
  TOKEN_TENANT_MISSING: {
    status: 401,
    blame: 'client',
    message: 'The token names no tenant.',
    check: 'The issuer of the token: claim tenant_id must be the UUID of a tenant.',
  },
  TENANT_UNKNOWN: {
    status: 401,
    blame: 'client',
    message: 'The tenant of the token does not exist.',
    check: 'The tenant was deleted or archived, or the token is of another installation.',
  },
  INVALID_CREDENTIALS: {
    status: 401,
    blame: 'client',
    message: 'Invalid tenant, email or password.',
    check:
      'One answer for an unknown tenant, a suspended one, an unknown user and a wrong password.',
  },
  LOGIN_LIMITED: {
    status: 429,
    blame: 'client',
    message: 'Too many failed attempts. Try again later.',
    check: 'Which limit, by the reason in the access log: LOGIN_FAILURES_*; TRUSTED_PROXIES.',
    retryAfterS: 60,
  },
  CONTEXT_INVALID: {
    status: 401,
    blame: 'client',
    message: 'The tenant context is missing or not valid.',
    check:
      'A request that did not come through the gateway, keys that differ, or clocks that drift.',
  },
  FORBIDDEN: {
    status: 403,
    blame: 'client',
    message: 'Not allowed.',
    check: 'The origin of the caller against FRONTEND_URL.',
  },
  NOT_FOUND: {
    status: 404,
    blame: 'client',
    message: 'Not found.',
    check: 'The id or name in the path.',
  },
  CONFLICT: {
    status: 409,
    blame: 'client',
    message: 'The resource exists already or has changed.',
    check: 'Unique values in the request.',
  },

  // What an operator sent to the admin API.
  ADMIN_KEY_INVALID: {
    status: 401,
    blame: 'client',
    message: 'A valid admin key is required.',
    check:
      'ADMIN_API_KEY of the gateway, or whether the named key was revoked (CLI admin-key list).',
  },
  ADMIN_SCOPE_TOO_NARROW: {
    status: 403,
    blame: 'client',
    message: 'This admin key may not do that.',
    check: 'The scope of the key (CLI admin-key list): read, operate or own.',
  },
  ADMIN_SESSION_ENDED: {
    status: 401,
    blame: 'client',
    message: 'The session has ended. Sign in again.',
    check:
      'ADMIN_SESSION_IDLE_MS and ADMIN_SESSION_MAX_MS; whether its key was revoked or changed.',
  },
  ADMIN_ORIGIN_REFUSED: {
    status: 403,
    blame: 'client',
    message: 'The request does not come from the console.',
    check: 'The reason in the log line: a page elsewhere, or a proxy that changes Host and Origin.',
  },
  ADMIN_LIMITED: {
    status: 429,
    blame: 'client',
    message: 'Too many attempts. Try again later.',
    check: 'Who tries keys: the address in the log lines of the admin API.',
    retryAfterS: 1,
  },
  ADMIN_DISABLED: {
    status: 503,
    blame: 'platform',
    message: 'The admin API has no key yet.',
    check: 'Set ADMIN_API_KEY of the gateway, or make a key (CLI admin-key create).',
    retryAfterS: 60,
  },
  PRECONDITION_FAILED: {
    status: 412,
    blame: 'client',
    message: 'The tenant was changed since it was read.',
    check: 'If-Match against the ETag of the tenant: someone else changed it (its audit says who).',
  },
  CONNECTION_TEST_FAILED: {
    status: 422,
    blame: 'client',
    message: 'The connection details do not work.',
    check: 'The message names the part; the database or bucket itself, as seen from the gateway.',
  },
  MOVE_FAILED: {
    status: 422,
    blame: 'client',
    message: 'The tenant could not be moved. It is where it was, and is served.',
    check: 'The message says what hindered it, the log line of each step how far it came.',
  },
  PROVISIONING_FAILED: {
    status: 502,
    blame: 'platform',
    message: 'A step of the making of the tenant failed.',
    check:
      'GET /api/admin/tenants/:id/provisioning: the step and what it failed with; then retry or undo.',
  },

  // What a tenant is in.
  TENANT_SUSPENDED: {
    status: 403,
    blame: 'tenant',
    message: 'This tenant is suspended.',
    check: 'Status and reason of the tenant; activate it by the CLI.',
  },
  TENANT_UNAVAILABLE: {
    status: 503,
    blame: 'tenant',
    message: 'This tenant is not available at the moment.',
    check: 'Status of the tenant: provisioning or maintenance.',
    retryAfterS: 30,
  },
  TENANT_HELD: {
    status: 503,
    blame: 'tenant',
    message: 'This tenant is being moved at the moment.',
    check: 'The table tenant_holds: who holds it, until when; HOLD_WAIT_MAX_MS, HELD_REQUESTS_MAX.',
    retryAfterS: 5,
  },
  TENANT_MIGRATING: {
    status: 503,
    blame: 'platform',
    message: 'This tenant is being upgraded. Try again shortly.',
    check: 'db:tenant-migrate -- status: whether its migration waits or failed; TENANT_SCHEMA_MIN.',
    retryAfterS: 10,
  },
  TENANT_DATABASE_UNAVAILABLE: {
    status: 503,
    blame: 'tenant',
    message: 'The database of this tenant is not available at the moment.',
    check: 'Reachability, credentials and connection limit of the tenant database.',
    retryAfterS: 5,
  },
  TENANT_BUCKET_UNAVAILABLE: {
    status: 503,
    blame: 'tenant',
    message: 'The file storage of this tenant is not available at the moment.',
    check: 'Endpoint, credentials and existence of the bucket of the tenant.',
    retryAfterS: 5,
  },
  TENANT_BUCKET_MISSING: {
    status: 409,
    blame: 'tenant',
    message: 'This tenant has no file storage.',
    check: 'Give the tenant a bucket (CLI set-bucket) or the app a default one (BUCKET_NAME).',
  },
  POOL_EXHAUSTED: {
    status: 503,
    blame: 'tenant',
    message: 'All database connections of this tenant are busy.',
    check: 'Slow queries of the tenant, db_pool_max, DB_GLOBAL_POOL_MAX, DB_HOST_POOL_MAX.',
    retryAfterS: 1,
  },
  TENANT_ISSUER_UNAVAILABLE: {
    status: 503,
    blame: 'tenant',
    message: 'The identity provider of this tenant is not available at the moment.',
    check: 'The JWKS URL of the tenant (CLI show): reachability, certificate, address, content.',
    retryAfterS: 5,
  },
  TENANT_CONFIG_INVALID: {
    status: 503,
    blame: 'tenant',
    message: 'This tenant is not configured correctly.',
    check: 'Secrets that do not decrypt, details that are not complete, a host that is refused.',
    retryAfterS: 30,
  },

  // What stands behind us.
  UPSTREAM_UNREACHABLE: {
    status: 502,
    blame: 'upstream',
    message: 'The application could not be reached.',
    check: 'App replicas are up and APP_UPSTREAMS names them.',
  },
  UPSTREAM_BAD_RESPONSE: {
    status: 502,
    blame: 'upstream',
    message: 'The application gave an invalid answer.',
    check: 'The app log for a crash in mid-answer; a peer on that port that does not speak HTTP.',
  },
  UPSTREAM_TIMEOUT: {
    status: 504,
    blame: 'upstream',
    message: 'The application took too long to answer.',
    check: 'Slow queries; UPSTREAM_HEAD_TIMEOUT_MS.',
  },
  UPSTREAM_BUSY: {
    status: 503,
    blame: 'upstream',
    message: 'The service is busy at the moment.',
    check: 'App replicas too few or too slow; UPSTREAM_CONNECTIONS_MAX.',
    retryAfterS: 1,
  },
  TENANT_BUSY: {
    status: 429,
    blame: 'tenant',
    message: 'Too many requests at once.',
    check: 'Slow requests of this tenant; UPSTREAM_TENANT_SHARE_PERCENT, TENANT_SPREAD.',
    retryAfterS: 1,
  },

  // What a tenant may use of the fleet, by its plan or its own limits.
  TENANT_RATE_LIMITED: {
    status: 429,
    blame: 'tenant',
    message: 'Too many requests. Try again later.',
    check:
      'Limits requests_per_s and burst of the tenant or its plan (CLI plan-list, edit --limits).',
    retryAfterS: 1,
  },
  TENANT_IN_FLIGHT_LIMITED: {
    status: 429,
    blame: 'tenant',
    message: 'Too many requests at once.',
    check: 'Limit in_flight of the tenant or its plan; slow requests of this tenant.',
    retryAfterS: 1,
  },
  TENANT_SOCKETS_LIMITED: {
    status: 429,
    blame: 'tenant',
    message: 'Too many open connections.',
    check: 'Limit sockets of the tenant or its plan: WebSockets and event streams that stay open.',
    retryAfterS: 10,
  },
  QUOTA_EXCEEDED: {
    status: 429,
    blame: 'tenant',
    message: 'The quota of this month is used up.',
    check: 'Limit requests_per_month of the tenant or its plan, against its usage of the month.',
    retryAfterS: 3600,
  },

  // Our own faults: 503 and never 500, so that a client may try again.
  REGISTRY_UNAVAILABLE: {
    status: 503,
    blame: 'platform',
    message: 'The service is not available at the moment.',
    check: 'The Registry database: reachability, connections, load.',
    retryAfterS: 2,
  },
  ISSUER_UNAVAILABLE: {
    status: 503,
    blame: 'platform',
    message: 'The token cannot be checked at the moment.',
    check: 'JWT_JWKS_URL or JWT_JWKS_FILE: reachability, certificate, content.',
    retryAfterS: 5,
  },
  TOKEN_CHECKS_BUSY: {
    status: 503,
    blame: 'platform',
    message: 'The service is busy at the moment.',
    check: 'A flood of tokens whose signature does not fit: whose addresses they come from.',
    retryAfterS: 1,
  },
  SHUTTING_DOWN: {
    status: 503,
    blame: 'platform',
    message: 'The service is restarting.',
    check: 'Nothing: a drain. If it lasts, DRAIN_TIMEOUT_MS.',
    retryAfterS: 1,
  },
  OVERLOADED: {
    status: 503,
    blame: 'platform',
    message: 'The service is busy at the moment.',
    check: 'doorman_shed_requests_total by reason and whose; CPU of the gateway, IN_FLIGHT_MAX.',
    retryAfterS: 1,
  },
  INTERNAL: {
    status: 503,
    blame: 'platform',
    message: 'The service is not available at the moment.',
    check: 'The log line of the request id: a defect in Doorman, please report it.',
    retryAfterS: 5,
  },
} as const satisfies Record<string, ErrorSpec>

export type ErrorCode = keyof typeof ERRORS

/** The table entry of `code`, widened so that optional columns can be read. */
export function errorSpec(code: ErrorCode): ErrorSpec {
  return ERRORS[code]
}

export interface FaultOptions {
  readonly cause?: unknown
  readonly publicMessage?: string
  readonly retryAfterS?: number
  readonly fields?: readonly string[]
  readonly tenantFault?: TenantFault | undefined
  /** What is wrong with each field that a client sent, by its name; it quotes no value. */
  readonly problems?: Readonly<Record<string, string>> | undefined
}

/**
 * A failure with a code of the table. `reason` is for logs only and never reaches a client; it must
 * not hold a secret. `publicMessage` replaces the table's text where the client needs the particular
 * (a field name in a validation error).
 */
export class Fault extends Error {
  override readonly name = 'Fault'
  readonly code: ErrorCode
  readonly reason: string
  readonly publicMessage: string
  readonly retryAfterS: number | undefined
  /** Further header fields of the answer: name, value, … */
  readonly fields: readonly string[]
  /** The app's word to the gateway on what of the tenant failed. */
  readonly tenantFault: TenantFault | undefined
  readonly problems: Readonly<Record<string, string>> | undefined

  constructor(code: ErrorCode, reason: string, options: FaultOptions = {}) {
    super(`${code}: ${reason}`, options.cause === undefined ? undefined : { cause: options.cause })
    const spec = errorSpec(code)
    this.code = code
    this.reason = reason
    this.publicMessage = options.publicMessage ?? spec.message
    this.retryAfterS = options.retryAfterS ?? spec.retryAfterS
    this.fields = options.fields ?? []
    this.tenantFault = options.tenantFault
    this.problems = options.problems
  }

  get status(): number {
    return ERRORS[this.code].status
  }
}

/** A failure whose reason the client may be told: it holds nothing but what the client's own request is about. */
export function publicFault(
  code: ErrorCode,
  text: string,
  options: Omit<FaultOptions, 'publicMessage'> = {},
): Fault {
  return new Fault(code, text, { ...options, publicMessage: text })
}

/** Anything thrown, as a Fault: what is not one already is a defect of ours (INTERNAL). */
export function toFault(error: unknown): Fault {
  if (error instanceof Fault) return error
  return new Fault('INTERNAL', messageForLog(error), { cause: error })
}

/** The body of every failure, gateway and app alike (DESIGN 4.1). */
export function faultBody(fault: Fault, requestId: string): string {
  return JSON.stringify({
    status: false,
    message: fault.publicMessage,
    result: null,
    code: fault.code,
    request_id: requestId,
    // Beside the contract's five: a form shows each at its field.
    ...(fault.problems !== undefined && { fields: fault.problems }),
  })
}

/** On every answer that Doorman makes itself. */
export const OWN_ANSWER_FIELDS = [
  'cache-control',
  'no-store',
  'x-content-type-options',
  'nosniff',
  'referrer-policy',
  'no-referrer',
  'content-security-policy',
  "default-src 'none'; frame-ancestors 'none'",
] as const

/**
 * The fields of every failure, name, value, …: the same in the gateway and in the app, and in this
 * order, so that nobody learns which of them refused a login (HARDENING B.11).
 *
 * @param status where it is not that of the code (EXPIRED_TOKEN_STATUS)
 */
export function faultFields(fault: Fault, status = fault.status): string[] {
  const fields = ['content-type', 'application/json; charset=utf-8']
  if (fault.retryAfterS !== undefined) fields.push('retry-after', String(fault.retryAfterS))
  fields.push(...fault.fields)
  // RFC 9110 section 15.5.2: a 401 names the scheme.
  if (status === 401) fields.push('www-authenticate', 'Bearer')
  fields.push(...(errorSpec(fault.code).fields ?? []))
  // Last, and gone at the gateway: what the client sees is the same from either of them.
  fields.push(...OWN_ANSWER_FIELDS)
  if (fault.tenantFault !== undefined) fields.push(TENANT_FAULT_HEADER, fault.tenantFault)
  return fields
}
