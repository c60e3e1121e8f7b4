import type { S3Client } from '@aws-sdk/client-s3'
import { bucketProblem, PROBE_OBJECT, probeBucket } from '../admin/probe-bucket.ts'
import type { BucketConnection } from '../connection.ts'
import { Fault, publicFault } from '../lib/errors.ts'
import type { HostAccess } from './hosts.ts'

type Access = Pick<HostAccess, 'addressPolicy'>

const CONNECT_TIMEOUT_MS = 3000
const IDLE_TIMEOUT_MS = 10_000
/** All calls of one step together. */
const DEADLINE_MS = 30_000

/**
 * A place for objects that is there, that works, and that holds nothing: a tenant that begins must not find
 * another's objects. A bucket of its own is made where it is missing. One with a prefix is shared with others
 * and has to be there: a misspelt name must not become a bucket.
 *
 * @param beforeMaking told before the bucket is made
 * @throws Fault CONFLICT where it holds objects already, CONNECTION_TEST_FAILED
 */
export async function ensureBucket(
  access: Access,
  place: BucketConnection,
  beforeMaking: () => Promise<void>,
): Promise<void> {
  // They are those of the machine that the app runs on, which nobody can try from here.
  if (place.access_key === null) return
  await withClient(access, place, async (client, s3, signal) => {
    const found = await lookInto(client, s3, place, signal)
    if (found === 'objects') {
      const where = place.prefix === null ? '' : ` below ${place.prefix}`
      throw publicFault('CONFLICT', `bucket ${place.name} holds objects${where} already`)
    }
    if (found === 'missing') {
      if (place.prefix !== null) throw failed('there is no such bucket')
      await beforeMaking()
      await make(client, s3, place, signal)
    }
  })
  const probe = await probeBucket(place, access)
  if (!probe.ok) throw failed(probe.message)
}

/**
 * Takes away a bucket that a run has made, where it is empty.
 *
 * @returns false where it stays: it holds objects, or the storage refuses
 */
export async function dropBucket(access: Access, place: BucketConnection): Promise<boolean> {
  return withClient(access, place, async (client, s3, signal) => {
    const bucket = { Bucket: place.name }
    try {
      const found = await lookInto(client, s3, { ...place, prefix: null }, signal)
      if (found === 'missing') return true
      if (found === 'objects') return false
      const probe = new s3.DeleteObjectCommand({ ...bucket, Key: PROBE_OBJECT })
      await client.send(probe, { abortSignal: signal })
      await client.send(new s3.DeleteBucketCommand(bucket), { abortSignal: signal })
      return true
    } catch (error) {
      // Versions that nobody sees, or rights that are gone: not worth a run that never ends.
      if (statusOf(error) !== null) return false
      throw error
    }
  })
}

/** What is there beside the object of a test that was cut short. */
async function lookInto(
  client: S3Client,
  s3: typeof import('@aws-sdk/client-s3'),
  { name, prefix }: BucketConnection,
  signal: AbortSignal,
): Promise<'missing' | 'nothing' | 'objects'> {
  const list = new s3.ListObjectsV2Command({ Bucket: name, Prefix: prefix ?? '', MaxKeys: 2 })
  try {
    const { Contents: found = [] } = await client.send(list, { abortSignal: signal })
    const own = `${prefix ?? ''}${PROBE_OBJECT}`
    return found.some(({ Key: key }) => key !== own) ? 'objects' : 'nothing'
  } catch (error) {
    const { name: code } = error as { name?: string }
    if (code === 'NoSuchBucket' || code === 'NotFound') return 'missing'
    throw error
  }
}

async function make(
  client: S3Client,
  s3: typeof import('@aws-sdk/client-s3'),
  { name, endpoint, region }: BucketConnection,
  signal: AbortSignal,
): Promise<void> {
  // AWS takes any region but its first in the body; other storages have one, and refuse the word.
  const isElsewhere = endpoint === null && region !== null && region !== 'us-east-1'
  const constraint = isElsewhere && {
    CreateBucketConfiguration: { LocationConstraint: region as 'eu-central-1' },
  }
  try {
    const command = new s3.CreateBucketCommand({ Bucket: name, ...constraint })
    await client.send(command, { abortSignal: signal })
  } catch (error) {
    const { name: code } = error as { name?: string }
    if (code === 'BucketAlreadyOwnedByYou') return
    if (code === 'BucketAlreadyExists')
      throw publicFault('CONFLICT', `somebody else has a bucket ${name}`)
    throw error
  }
}

async function withClient<T>(
  { addressPolicy }: Access,
  place: BucketConnection,
  work: (
    client: S3Client,
    s3: typeof import('@aws-sdk/client-s3'),
    signal: AbortSignal,
  ) => Promise<T>,
): Promise<T> {
  // Loaded when it is needed: a gateway that makes no bucket does not carry it.
  const [{ makeBucketClient }, s3] = await Promise.all([
    import('../lib/bucket-client.ts'),
    import('@aws-sdk/client-s3'),
  ])
  const signal = AbortSignal.timeout(DEADLINE_MS)
  const client = makeBucketClient(place, {
    connectMs: CONNECT_TIMEOUT_MS,
    idleMs: IDLE_TIMEOUT_MS,
    socketsMax: 1,
    addressPolicy,
  })
  try {
    return await work(client, s3, signal)
  } catch (error) {
    if (error instanceof Fault) throw error
    if (signal.aborted) throw failed(`no answer within ${DEADLINE_MS} ms`)
    throw failed(bucketProblem(error, 'bucket')[1])
  } finally {
    client.destroy()
  }
}

function statusOf(error: unknown): number | null {
  const { $metadata } = error as { $metadata?: { httpStatusCode?: number } }
  return $metadata?.httpStatusCode ?? null
}

function failed(problem: string): Fault {
  const text = `bucket: ${problem}`
  return publicFault('CONNECTION_TEST_FAILED', text)
}
