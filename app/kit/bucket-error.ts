import { Fault } from '../../registry/lib/errors.ts'
import type { TenantFault } from '../../registry/lib/tenant-fault.ts'

/** Error codes of S3 by which the storage refuses the keys themselves, whatever the object. */
const KEYS_REFUSED = new Set([
  'InvalidAccessKeyId',
  'SignatureDoesNotMatch',
  'ExpiredToken',
  'InvalidToken',
  'TokenRefreshRequired',
  // The SDK found no keys at all: no IAM role.
  'CredentialsProviderError',
])

/** What a failure of the tenant's storage means; a Fault passes as it is. */
export function bucketFault(error: unknown): Fault {
  if (error instanceof Fault) return error
  const name = error instanceof Error ? error.name : ''
  const text = error instanceof Error ? error.message : String(error)
  if (name === 'NoSuchKey' || name === 'NotFound') {
    return new Fault('NOT_FOUND', 'no such object', { cause: error })
  }
  if (name === 'AbortError') return new Fault('BAD_REQUEST', 'the client left', { cause: error })
  return new Fault('TENANT_BUCKET_UNAVAILABLE', `${name}: ${text}`, {
    cause: error,
    tenantFault: tenantFaultOf(name, error),
  })
}

/**
 * What an operation says of the storage as a whole: true, it works; false, it is of no use to the
 * tenant at the moment; null, nothing.
 */
export function bucketVerdict(fault: Fault): boolean | null {
  if (fault.code === 'NOT_FOUND') return true
  if (fault.code !== 'TENANT_BUCKET_UNAVAILABLE') return null
  if (fault.tenantFault === 'bucket_unreachable') return false
  const { name = '' } = Object(fault.cause)
  // A 403 may be about the one object or the one operation.
  return fault.tenantFault === 'bucket_auth' && KEYS_REFUSED.has(name) ? false : null
}

function tenantFaultOf(name: string, error: unknown): TenantFault | undefined {
  if (name === 'NoSuchBucket') return 'bucket_missing'
  if (KEYS_REFUSED.has(name)) return 'bucket_auth'
  const status: unknown = Object(Object(error).$metadata).httpStatusCode
  if (status === 401 || status === 403) return 'bucket_auth'
  // Without a status there was no answer: name, connect, TLS, time-out.
  return typeof status !== 'number' || status >= 500 ? 'bucket_unreachable' : undefined
}
