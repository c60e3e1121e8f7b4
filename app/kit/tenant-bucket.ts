import { Readable, Transform, type TransformCallback } from 'node:stream'
import {
  DeleteObjectCommand,
  GetObjectCommand,
  HeadObjectCommand,
  ListObjectsV2Command,
  PutObjectCommand,
  type S3Client,
} from '@aws-sdk/client-s3'
import { Upload } from '@aws-sdk/lib-storage'
import { Fault } from '../../registry/lib/errors.ts'
import { bucketFault } from './bucket-error.ts'
import { objectKey } from './object-name.ts'
import type { BucketLease } from './tenant-buckets.ts'

/** The files of the request's tenant; there is no way to name those of another. */
export interface TenantBucket {
  /** Streams `body` into the object; nothing is kept of an upload that does not come to its end. */
  put(name: string, body: Readable, options: PutOptions): Promise<{ size: number }>
  /** The caller must read `body` to its end or destroy it. */
  get(name: string): Promise<StoredFile & { readonly body: Readable }>
  head(name: string): Promise<StoredFile>
  /** Removing what is not there is no error, as S3 has it. */
  remove(name: string): Promise<void>
  list(limit: number, cursor: string | null): Promise<FilePage>
}

export interface PutOptions {
  /** From Content-Length; null: unknown, then the upload goes in parts. */
  readonly length: number | null
  readonly contentType: string
  readonly bytesMax: number
}

export interface StoredFile {
  readonly size: number
  readonly contentType: string
  readonly etag: string | null
  readonly modifiedAt: Date | null
}

export interface FilePage {
  readonly files: readonly { name: string; size: number; modified_at: Date | null }[]
  /** For the next page; null on the last one. */
  readonly cursor: string | null
}

/** 8 MiB × PARTS_AT_ONCE are held per upload of unknown length; 10,000 parts make 78 GiB. */
const PART_BYTES = 8 * 1024 * 1024
const PARTS_AT_ONCE = 2

/**
 * @param lease called per operation: the client is held until the operation and its stream end
 * @param signalOf asked per operation; what runs when it aborts is given up
 */
export function makeTenantBucket(
  lease: () => BucketLease,
  signalOf: () => AbortSignal | null = () => null,
): TenantBucket {
  const abortable = () => {
    const abortSignal = signalOf()
    return abortSignal === null ? {} : { abortSignal }
  }

  async function withLease<T>(work: (held: BucketLease) => Promise<T>): Promise<T> {
    const held = lease()
    try {
      return await settled(held, work)
    } finally {
      held.release()
    }
  }

  return {
    put: (name, body, options) =>
      withLease(held => {
        const place = { Bucket: held.bucket, Key: objectKey(held.prefix, name) }
        return put(held.client, place, body, options)
      }),

    async get(name) {
      const held = lease()
      try {
        return await settled(held, async () => {
          const place = { Bucket: held.bucket, Key: objectKey(held.prefix, name) }
          const found = await held.client.send(new GetObjectCommand(place), abortable())
          const body = found.Body
          if (!(body instanceof Readable)) throw new Error('the storage gave no stream')
          body.once('close', held.release)
          return { body, ...storedFile(found) }
        })
      } catch (error) {
        held.release()
        throw error
      }
    },

    head: name =>
      withLease(async held => {
        const place = { Bucket: held.bucket, Key: objectKey(held.prefix, name) }
        return storedFile(await held.client.send(new HeadObjectCommand(place), abortable()))
      }),

    remove: name =>
      withLease(async held => {
        const place = { Bucket: held.bucket, Key: objectKey(held.prefix, name) }
        await held.client.send(new DeleteObjectCommand(place), abortable())
      }),

    list: (limit, cursor) =>
      withLease(async held => {
        const page = await held.client.send(
          new ListObjectsV2Command({
            Bucket: held.bucket,
            Prefix: held.prefix,
            // Names have no slash: what lies deeper is not ours, but of a prefix inside this one.
            Delimiter: '/',
            MaxKeys: limit,
            ...(cursor === null ? {} : { ContinuationToken: cursor }),
          }),
          abortable(),
        )
        const files = (page.Contents ?? [])
          .filter(({ Key }) => Key?.startsWith(held.prefix) && Key !== held.prefix)
          .map(({ Key = '', Size = 0, LastModified = null }) => ({
            name: Key.slice(held.prefix.length),
            size: Size,
            modified_at: LastModified,
          }))
        return { files, cursor: page.NextContinuationToken ?? null }
      }),
  }
}

/** Tells the client's breaker what came of `work`. */
async function settled<T>(held: BucketLease, work: (held: BucketLease) => Promise<T>): Promise<T> {
  try {
    const result = await work(held)
    held.settle(null)
    return result
  } catch (error) {
    const fault = bucketFault(error)
    held.settle(fault)
    throw fault
  }
}

async function put(
  client: S3Client,
  place: { Bucket: string; Key: string },
  body: Readable,
  { length, contentType, bytesMax }: PutOptions,
): Promise<{ size: number }> {
  if (length !== null && length > bytesMax) throw tooLarge()
  const abort = new AbortController()
  // A client that leaves ends its body early; the storage must see an abort, not a short object.
  const counter = new ByteCounter(bytesMax)
  const stop = () => {
    if (!counter.isComplete) abort.abort()
  }
  body.once('error', stop)
  body.once('close', stop)
  counter.once('error', stop)
  body.pipe(counter)
  try {
    if (body.destroyed && !body.readableEnded) throw new Error('the client left')
    const params = { ...place, Body: counter, ContentType: contentType }
    if (length !== null) {
      const command = new PutObjectCommand({ ...params, ContentLength: length })
      await client.send(command, { abortSignal: abort.signal })
    } else {
      await new Upload({
        client,
        params,
        partSize: PART_BYTES,
        queueSize: PARTS_AT_ONCE,
        abortController: abort,
      }).done()
    }
    return { size: counter.bytes }
  } catch (error) {
    throw counter.fault ?? error
  } finally {
    body.removeListener('error', stop)
    body.removeListener('close', stop)
    body.unpipe(counter)
    counter.destroy()
    // From here on an abort of the client is nobody's concern, and must not be an uncaught error.
    body.on('error', () => {})
  }
}

class ByteCounter extends Transform {
  bytes = 0
  isComplete = false
  fault: Fault | null = null
  readonly #bytesMax: number

  constructor(bytesMax: number) {
    super()
    this.#bytesMax = bytesMax
    this.on('error', () => {})
  }

  override _transform(chunk: Buffer, _: string, done: TransformCallback): void {
    this.bytes += chunk.length
    if (this.bytes > this.#bytesMax) {
      this.fault = tooLarge()
      done(this.fault)
    } else done(null, chunk)
  }

  override _flush(done: TransformCallback): void {
    this.isComplete = true
    done()
  }
}

interface ObjectHead {
  readonly ContentLength?: number | undefined
  readonly ContentType?: string | undefined
  readonly ETag?: string | undefined
  readonly LastModified?: Date | undefined
}

function storedFile(head: ObjectHead): StoredFile {
  return {
    size: head.ContentLength ?? 0,
    contentType: head.ContentType ?? 'application/octet-stream',
    etag: head.ETag ?? null,
    modifiedAt: head.LastModified ?? null,
  }
}

function tooLarge(): Fault {
  return new Fault('BODY_TOO_LARGE', 'file over FILE_BYTES_MAX')
}
