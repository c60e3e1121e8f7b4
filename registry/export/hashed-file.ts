import { createHash } from 'node:crypto'
import { createWriteStream } from 'node:fs'
import { Transform, type Writable } from 'node:stream'
import { pipeline } from 'node:stream/promises'

export interface FileDigest {
  readonly bytes: number
  /** Lower-case hex. */
  readonly sha256: string
}

export interface HashedFile {
  readonly input: Writable
  /** Settles when the file is closed. */
  readonly done: Promise<FileDigest>
}

/** A new file for its owner alone, with its checksum taken on the way. One that exists is an error. */
export function openHashedFile(path: string): HashedFile {
  const hash = createHash('sha256')
  let bytes = 0
  const input = new Transform({
    transform(chunk: Buffer, _encoding, done) {
      hash.update(chunk)
      bytes += chunk.length
      done(null, chunk)
    },
  })
  const file = createWriteStream(path, { flags: 'wx', mode: 0o600 })
  const done = pipeline(input, file).then(() => ({ bytes, sha256: hash.digest('hex') }))
  // Whoever writes looks at it in the end.
  done.catch(() => {})
  return { input, done }
}

/** Fills a new file by `write`, and closes it whatever happens. */
export async function writeHashedFile<T>(
  path: string,
  write: (input: Writable) => Promise<T>,
): Promise<{ readonly digest: FileDigest; readonly result: T }> {
  const { input, done } = openHashedFile(path)
  try {
    const result = await write(input)
    input.end()
    return { digest: await done, result }
  } catch (error) {
    // Where the disk said no, that is the reason, and what `write` saw is its consequence.
    const isFileFault = input.destroyed
    input.destroy()
    const cause = await done.then(
      () => error,
      fault => fault,
    )
    throw isFileFault ? cause : error
  }
}
