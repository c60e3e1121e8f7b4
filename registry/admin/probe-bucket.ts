import type { BucketConnection } from '../connection.ts'
import type { AdminDeps } from './deps.ts'
import { networkProblem, type ProbeResult, type ProbeStep } from './probe-result.ts'

const CONNECT_TIMEOUT_MS = 3000
const IDLE_TIMEOUT_MS = 5000
/** All calls together. */
const DEADLINE_MS = 10_000
/** Written and removed again. A fixed name: where it cannot be removed, tests do not pile it up. */
export const PROBE_OBJECT = 'doorman-connection-test'

/** What a storage says in refusal, by the name of its error. */
const REFUSALS: Readonly<Record<string, readonly [ProbeStep, string]>> = {
  NoSuchBucket: ['bucket', 'there is no such bucket'],
  NotFound: ['bucket', 'there is no such bucket'],
  InvalidAccessKeyId: ['credentials', 'the storage does not know this access key'],
  SignatureDoesNotMatch: ['credentials', 'the secret key is not that of the access key'],
  InvalidBucketName: ['configuration', 'this is no name of a bucket'],
  PermanentRedirect: ['configuration', 'the bucket is in another region'],
  AuthorizationHeaderMalformed: ['configuration', 'the bucket is in another region'],
}

/** Lists, writes and removes in a tenant's bucket, within its prefix, as the app does. */
export async function probeBucket(
  place: BucketConnection,
  deps: Pick<AdminDeps, 'addressPolicy'>,
): Promise<ProbeResult> {
  const startedAt = performance.now()
  const result = (ok: boolean, step: ProbeStep | null, message: string): ProbeResult => {
    return { ok, step, message, took_ms: Math.round(performance.now() - startedAt) }
  }
  if (place.access_key === null || place.secret_key === null) {
    return result(true, null, 'not tested: the keys are those of the machine that the app runs on')
  }
  // Loaded when it is needed: a gateway that tests no bucket does not carry it.
  const [{ makeBucketClient }, s3] = await Promise.all([
    import('../lib/bucket-client.ts'),
    import('@aws-sdk/client-s3'),
  ])
  const { addressPolicy } = deps
  const signal = AbortSignal.timeout(DEADLINE_MS)
  let step: ProbeStep = 'list'
  try {
    const client = makeBucketClient(place, {
      connectMs: CONNECT_TIMEOUT_MS,
      idleMs: IDLE_TIMEOUT_MS,
      socketsMax: 1,
      addressPolicy,
    })
    try {
      const bucket = { Bucket: place.name }
      const prefix = place.prefix ?? ''
      const list = new s3.ListObjectsV2Command({ ...bucket, Prefix: prefix, MaxKeys: 1 })
      await client.send(list, { abortSignal: signal })
      step = 'write'
      const object = { ...bucket, Key: `${prefix}${PROBE_OBJECT}` }
      const body = { Body: '', ContentLength: 0 }
      await client.send(new s3.PutObjectCommand({ ...object, ...body }), { abortSignal: signal })
      await client.send(new s3.DeleteObjectCommand(object), { abortSignal: signal })
      return result(true, null, 'works')
    } finally {
      client.destroy()
    }
  } catch (error) {
    if (signal.aborted) return result(false, 'connect', `no answer within ${DEADLINE_MS} ms`)
    return result(false, ...bucketProblem(error, step))
  }
}

/** Step and words for what the client of the storage threw. */
export function bucketProblem(error: unknown, step: ProbeStep): [ProbeStep, string] {
  const { name = '', $metadata } = error as {
    name?: string
    $metadata?: { httpStatusCode?: number }
  }
  const known = REFUSALS[name] ?? networkProblem(error)
  if (known !== null) return [...known]
  const status = $metadata?.httpStatusCode
  if (status === 401 || status === 403) {
    const what = step === 'list' ? 'list the bucket' : 'write to and remove from the bucket'
    return ['credentials', `these keys may not ${what}`]
  }
  if (name === 'TimeoutError') return ['connect', 'no answer in time']
  if (status !== undefined) return [step, `the storage answers with status ${status}`]
  return ['connect', 'the server does not behave like an S3 storage']
}
