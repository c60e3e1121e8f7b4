import type { IncomingMessage } from 'node:http'
import type { S3Grant } from './s3-signature.ts'

/** Query parameters that only administer a bucket; the embedded server's buckets are fixed. */
const ADMINISTRATION = ['cors', 'website', 'policy', 'acl', 'lifecycle', 'versioning']

/** True where `grant` covers what the request names. Anything that is not understood is refused. */
export function isAllowed(req: IncomingMessage, grant: S3Grant): boolean {
  const [rawPath = '', rawQuery = ''] = (req.url ?? '').split('?', 2)
  const query = new URLSearchParams(rawQuery)
  const parameters = [...query.keys()].map(name => name.toLowerCase())
  // The server beneath takes x-amz-* from the query as if they were headers.
  if (parameters.some(name => name.startsWith('x-amz-') || ADMINISTRATION.includes(name))) {
    return false
  }
  const uploadId = query.getAll('uploadId')
  if (uploadId.some(id => !/^\w+$/.test(id))) return false
  const target = parsePath(rawPath)
  if (target === null || !covers(grant, target, query)) return false
  if (target.key === '' && req.method !== 'GET' && req.method !== 'HEAD') {
    // The keys of a multi-object delete stand in its body.
    const isDelete = req.method === 'POST' && query.has('delete')
    const isMaking = /^(PUT|DELETE)$/.test(req.method ?? '') && mayMake(grant, target, parameters)
    if ((!isDelete && !isMaking) || grant.prefix !== undefined) return false
  }
  const source = req.headers['x-amz-copy-source']
  if (source === undefined) return true
  const from = parsePath(`/${String(source).replace(/^\//, '')}`)
  return from !== null && from.key !== '' && covers(grant, from, query)
}

interface Target {
  readonly bucket: string
  /** Empty for the bucket itself. */
  readonly key: string
}

function covers(grant: S3Grant, target: Target, query: URLSearchParams): boolean {
  if (!grant.buckets.includes(target.bucket) && !isOfMaker(grant, target)) return false
  if (grant.prefix === undefined) return true
  if (target.key !== '') return target.key.startsWith(grant.prefix)
  // Of a bucket shared by tenants, only the own part is listed.
  const prefixes = query.getAll('prefix')
  return prefixes.length === 1 && prefixes[0]?.startsWith(grant.prefix) === true
}

function isOfMaker({ makes }: S3Grant, { bucket }: Target): boolean {
  return makes !== undefined && makes !== '' && bucket.startsWith(makes)
}

/** The bucket itself, and nothing that the server beneath reads from the query (x-id is the SDK's own). */
function mayMake(grant: S3Grant, target: Target, parameters: readonly string[]): boolean {
  return isOfMaker(grant, target) && parameters.every(name => name === 'x-id')
}

/** Bucket and key of a path, or null where the key could leave its place on disk. */
function parsePath(rawPath: string): Target | null {
  let path: string
  try {
    path = decodeURIComponent(rawPath)
  } catch {
    return null
  }
  const [empty, bucket = '', ...rest] = path.split('/')
  if (empty !== '' || !/^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$/.test(bucket)) return null
  const isOdd = rest.some(part => part === '.' || part === '..' || part.includes('._S3rver_'))
  if (isOdd || path.includes('\0') || path.includes('\\')) return null
  return { bucket, key: rest.join('/') }
}
