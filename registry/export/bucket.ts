import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import type { Readable, Writable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { GetObjectCommand, ListObjectsV2Command, type S3Client } from '@aws-sdk/client-s3'
import type { AdminDeps } from '../admin/deps.ts'
import type { BucketConnection } from '../connection.ts'
import { makeBucketClient } from '../lib/bucket-client.ts'
import { Fault } from '../lib/errors.ts'
import { type FileDigest, writeHashedFile } from './hashed-file.ts'

export interface ExportedBucket {
  readonly name: string
  readonly prefix: string | null
  readonly objects: number
  readonly bytes: number
  /** One JSON line for each object: key, file, bytes, sha256, content_type, last_modified. */
  readonly index: FileDigest & { readonly file: string }
}

const CONNECT_TIMEOUT_MS = 5000
/** Longest silence of the storage. */
const IDLE_TIMEOUT_MS = 60_000
const PAGE = 1000
/** Files in one folder. */
const FOLDER_FILES_MAX = 1000
const INDEX = 'objects.jsonl'

/**
 * The objects of a tenant, those below its prefix and no others. Files are numbered: a key may be no name of a
 * file, or lead out of the folder.
 *
 * @param folder exists; `objects/` and the index are made in it
 * @throws Fault TENANT_BUCKET_UNAVAILABLE, or an Error of a file
 */
export async function exportBucket(
  place: BucketConnection,
  deps: AdminDeps,
  folder: string,
  onProgress: (text: string) => void,
): Promise<ExportedBucket> {
  const client = makeBucketClient(place, {
    connectMs: CONNECT_TIMEOUT_MS,
    idleMs: IDLE_TIMEOUT_MS,
    socketsMax: 2,
    addressPolicy: deps.addressPolicy,
  })
  try {
    await mkdir(join(folder, 'objects'), { mode: 0o700 })
    const counts = { objects: 0, bytes: 0 }
    const { digest } = await writeHashedFile(join(folder, INDEX), async index => {
      for await (const key of keysOf(client, place)) {
        const file = await fileOf(folder, counts.objects)
        const saved = await exportObject(client, place, key, folder, file)
        // Removed since it was listed, as objects of a tenant that is served may be.
        if (saved === null) continue
        counts.objects += 1
        counts.bytes += saved.bytes
        await writeLine(index, { key, file, ...saved })
        if (counts.objects % PAGE === 0) onProgress(`${counts.objects} objects so far`)
      }
    })
    onProgress(`bucket ${place.name}: ${counts.objects} objects, ${counts.bytes} bytes`)
    const { name, prefix } = place
    return { name, prefix, ...counts, index: { file: INDEX, ...digest } }
  } finally {
    client.destroy()
  }
}

async function* keysOf(
  client: S3Client,
  { name, prefix }: BucketConnection,
): AsyncGenerator<string, void, undefined> {
  let token: string | undefined
  do {
    const page = await client
      .send(
        new ListObjectsV2Command({
          Bucket: name,
          Prefix: prefix ?? '',
          MaxKeys: PAGE,
          ContinuationToken: token,
        }),
      )
      .catch(error => {
        throw unavailable(error)
      })
    for (const { Key: key } of page.Contents ?? []) {
      // A storage that takes no notice of the prefix would hand over other tenants' objects.
      if (key?.startsWith(prefix ?? '')) yield key
    }
    token = page.IsTruncated ? page.NextContinuationToken : undefined
  } while (token !== undefined)
}

async function fileOf(folder: string, index: number): Promise<string> {
  const part = `objects/${String(Math.floor(index / FOLDER_FILES_MAX)).padStart(4, '0')}`
  if (index % FOLDER_FILES_MAX === 0)
    await mkdir(join(folder, part), { mode: 0o700, recursive: true })
  return `${part}/${String(index + 1).padStart(7, '0')}`
}

async function exportObject(
  client: S3Client,
  { name }: BucketConnection,
  key: string,
  folder: string,
  file: string,
) {
  const object = await client
    .send(new GetObjectCommand({ Bucket: name, Key: key }))
    .catch(error => {
      if ((error as Error).name === 'NoSuchKey') return null
      throw unavailable(error)
    })
  if (object === null) return null
  const { digest } = await writeHashedFile(join(folder, file), input =>
    pipeline(object.Body as Readable, input, { end: false }),
  )
  if (object.ContentLength !== undefined && object.ContentLength !== digest.bytes) {
    throw unavailable(new Error('an object broke off'))
  }
  return {
    ...digest,
    content_type: object.ContentType ?? null,
    last_modified: object.LastModified?.toISOString() ?? null,
  }
}

async function writeLine(sink: Writable, value: object): Promise<void> {
  if (!sink.write(`${JSON.stringify(value)}\n`)) await once(sink, 'drain')
}

/** SHA-256 of a text, as the manifest has them of files. */
export function sha256(text: string): string {
  return createHash('sha256').update(text).digest('hex')
}

function unavailable(error: unknown): Fault {
  const { name = '', message = '' } = error as Error
  return new Fault('TENANT_BUCKET_UNAVAILABLE', `bucket: ${name}: ${message}`)
}
