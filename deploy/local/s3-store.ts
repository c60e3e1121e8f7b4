import { createHash, randomBytes } from 'node:crypto'
import { createWriteStream } from 'node:fs'
import { rename, rm } from 'node:fs/promises'
import { Readable, Transform, type TransformCallback } from 'node:stream'
import { pipeline } from 'node:stream/promises'

type Written = [sizeBytes: number, md5: string]

/**
 * Writes an object beside its place and renames it: a client that leaves in the middle of an upload
 * leaves the old object, never half of the new one.
 */
export async function putContent(path: string, content: Buffer | Readable): Promise<Written> {
  const partial = `${path}.${randomBytes(8).toString('hex')}.partial`
  const md5 = createHash('md5')
  let sizeBytes = 0
  const count = new Transform({
    transform(chunk: Buffer, _encoding: BufferEncoding, done: TransformCallback) {
      md5.update(chunk)
      sizeBytes += chunk.length
      done(null, chunk)
    },
  })
  const source = Buffer.isBuffer(content) ? Readable.from([content]) : content
  try {
    await pipeline(source, count, createWriteStream(partial))
    await rename(partial, path)
  } catch (error) {
    await rm(partial, { force: true })
    throw error
  }
  return [sizeBytes, md5.digest('hex')]
}

/** `aws-chunked` describes the upload and must not come back as the object's own coding. */
export function withoutTransferCoding(metadata: Record<string, string>): void {
  const codings = (metadata['content-encoding'] ?? '')
    .split(',')
    .map(coding => coding.trim())
    .filter(coding => coding !== '' && coding !== 'aws-chunked')
  if (codings.length > 0) metadata['content-encoding'] = codings.join(', ')
  else delete metadata['content-encoding']
}
