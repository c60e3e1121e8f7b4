import type { RequestTrace } from '../../registry/lib/trace/tracer.ts'
import { sqlState } from './db-error.ts'
import type { TenantBucket } from './tenant-bucket.ts'

/** A wait for a connection shorter than this says nothing. */
const WAIT_MS_MIN = 1
/** The first word of a statement, behind blanks and comments of one line. */
const OPERATION = /^(?:\s|--[^\n]*\n)*([A-Za-z]+)/

/** Of a statement its kind alone: its text may hold what a handler put into it. */
export function traceStatement(
  trace: RequestTrace,
  text: string,
  startedAt: number,
  error: unknown,
): void {
  const operation = OPERATION.exec(text)?.[1]?.toUpperCase() ?? 'SQL'
  const state = error === null ? undefined : (sqlState(error) ?? 'connection')
  trace.child(
    operation,
    startedAt,
    [
      ...['db.system.name', 'postgresql', 'db.operation.name', operation],
      ...['db.response.status_code', state, 'error.type', state],
    ],
    error !== null,
  )
}

/** A request has got its connection. */
export function traceWait(trace: RequestTrace, startedAt: number): void {
  if (performance.now() - startedAt < WAIT_MS_MIN) return
  trace.child('wait for a connection', startedAt, ['db.system.name', 'postgresql'], false)
}

/** A bucket whose operations are in the request's trace, without the names of its objects. */
export function tracedBucket(bucket: TenantBucket, trace: RequestTrace): TenantBucket {
  const traced = async <T>(operation: string, work: Promise<T>): Promise<T> => {
    const startedAt = performance.now()
    const attributes = ['rpc.system', 'aws-api', 'rpc.service', 'S3', 'rpc.method', operation]
    try {
      const result = await work
      trace.child(`S3 ${operation}`, startedAt, attributes, false)
      return result
    } catch (error) {
      const { code } = error as { code?: unknown }
      const type = typeof code === 'string' ? code : 'error'
      trace.child(`S3 ${operation}`, startedAt, [...attributes, 'error.type', type], true)
      throw error
    }
  }
  return {
    put: (name, body, options) => traced('PutObject', bucket.put(name, body, options)),
    get: name => traced('GetObject', bucket.get(name)),
    head: name => traced('HeadObject', bucket.head(name)),
    remove: name => traced('DeleteObject', bucket.remove(name)),
    list: (limit, cursor) => traced('ListObjectsV2', bucket.list(limit, cursor)),
  }
}
