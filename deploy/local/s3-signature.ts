import { createHash, createHmac, timingSafeEqual } from 'node:crypto'
import type { IncomingMessage } from 'node:http'

/** A pair of keys and what it opens: one bucket, or one prefix of it. */
export interface S3Grant {
  readonly accessKey: string
  readonly secretKey: string
  readonly buckets: readonly string[]
  /** Only keys that begin with it ("globex/"); absent: the whole bucket. */
  readonly prefix?: string
  /** Buckets whose names begin with it may be made and removed too; absent: none. */
  readonly makes?: string
}

export type Refusal = 'AccessDenied' | 'InvalidAccessKeyId' | 'SignatureDoesNotMatch'

const AUTHORIZATION =
  /^AWS4-HMAC-SHA256 Credential=([^/,\s]+)\/(\d{8})\/([\w-]+)\/s3\/aws4_request,\s*SignedHeaders=([\w;.-]+),\s*Signature=([0-9a-f]{64})$/
/** AWS allows 15 minutes between the clocks. */
const SKEW_MS = 15 * 60_000

/**
 * Checks AWS Signature Version 4 of a request (header form; presigned URLs are not served) and
 * returns the grant behind it, or why there is none.
 * https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html
 */
export function authenticate(
  req: IncomingMessage,
  grants: ReadonlyMap<string, S3Grant>,
  nowMs: number,
): S3Grant | Refusal {
  const parts = AUTHORIZATION.exec(req.headers.authorization ?? '')
  if (parts === null) return 'AccessDenied'
  const [, accessKey = '', day = '', region = '', signedHeaders = '', signature = ''] = parts
  const grant = grants.get(accessKey)
  if (grant === undefined) return 'InvalidAccessKeyId'
  const at = text(req.headers['x-amz-date'])
  const time = at.replace(/^(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)Z$/, '$1-$2-$3T$4:$5:$6Z')
  if (!(Math.abs(Date.parse(time) - nowMs) <= SKEW_MS) || !at.startsWith(day)) return 'AccessDenied'
  const names = signedHeaders.split(';')
  // What is not signed could be added on the way: the host and all that steers the request must be.
  const steering = Object.keys(req.headers).filter(name => name.startsWith('x-amz-'))
  if (!['host', ...steering].every(name => names.includes(name))) return 'AccessDenied'

  const scope = `${day}/${region}/s3/aws4_request`
  const toSign = ['AWS4-HMAC-SHA256', at, scope, sha256(canonicalRequest(req, names))].join('\n')
  const key = [day, region, 's3', 'aws4_request'].reduce<string | Buffer>(
    (secret, part) => createHmac('sha256', secret).update(part).digest(),
    `AWS4${grant.secretKey}`,
  )
  const expected = createHmac('sha256', key).update(toSign).digest()
  const isSame = timingSafeEqual(expected, Buffer.from(signature, 'hex'))
  return isSame ? grant : 'SignatureDoesNotMatch'
}

function canonicalRequest(req: IncomingMessage, signedHeaders: readonly string[]): string {
  const [path = '/', query = ''] = (req.url ?? '/').split('?', 2)
  const parameters = query
    .split('&')
    .filter(parameter => parameter !== '')
    .map(parameter => (parameter.includes('=') ? parameter : `${parameter}=`))
    .sort()
  const headers = signedHeaders.map(name => {
    const value = text(req.headers[name]).trim().replace(/ +/g, ' ')
    return `${name}:${value}\n`
  })
  return [
    req.method,
    path,
    parameters.join('&'),
    headers.join(''),
    signedHeaders.join(';'),
    text(req.headers['x-amz-content-sha256']),
  ].join('\n')
}

const text = (value: string | string[] | undefined) => String(value ?? '')
const sha256 = (data: string) => createHash('sha256').update(data).digest('hex')
