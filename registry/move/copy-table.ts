import type { Client } from 'pg'

/** What pg hands to the query that is under way; not in its types, but how pg-copy-streams is made too. */
interface Wire {
  readonly stream: {
    pause(): void
    resume(): void
    cork(): void
    uncork(): void
    once(event: 'drain', listener: () => void): void
    readonly writableNeedDrain: boolean
  }
  query(text: string): void
  sendCopyFromChunk(chunk: Buffer): void
  endCopyFrom(): void
  sendCopyFail(reason: string): void
}

/**
 * Copies what `out` (COPY … TO STDOUT) brings from one server into `into` (COPY … FROM STDIN) on another, with
 * back-pressure: no more than a socket's buffer is in memory.
 *
 * @returns rows that the target took
 * @throws the error of either side; both connections can be used again after it
 */
export async function copyTable(
  source: Client,
  out: string,
  target: Client,
  into: string,
): Promise<number> {
  const writer = new CopyIn(into)
  target.query(writer as never)
  // Only then: what the source sends needs a place to go.
  await writer.isOpen
  const reader = new CopyOut(out, chunk => writer.write(chunk))
  source.query(reader as never)
  try {
    await Promise.race([reader.done, writer.failed])
    writer.end()
  } catch (error) {
    writer.fail()
    reader.drop()
    await Promise.allSettled([reader.done, writer.done])
    throw error
  }
  return writer.done
}

/** One COPY on a connection, as pg sees a query. */
class Copy {
  readonly text: string
  readonly done: Promise<number>
  protected connection: Wire | null = null
  readonly #settled = Promise.withResolvers<number>()
  #rows = 0
  #error: Error | null = null

  constructor(text: string) {
    this.text = text
    this.done = this.#settled.promise
    this.done.catch(() => {})
  }

  submit(connection: Wire): void {
    this.connection = connection
    connection.query(this.text)
  }

  handleCommandComplete({ text }: { readonly text?: string }): void {
    this.#rows = Number(/^COPY (\d+)/.exec(text ?? '')?.[1] ?? 0)
  }

  handleError(error: Error): void {
    this.#error = error
    this.#settled.reject(error)
  }

  /** The connection may be used again. */
  handleReadyForQuery(): void {
    if (this.#error === null) this.#settled.resolve(this.#rows)
  }
}

class CopyOut extends Copy {
  readonly #take: (chunk: Buffer) => Promise<void> | null
  #isDropping = false

  constructor(text: string, take: (chunk: Buffer) => Promise<void> | null) {
    super(text)
    this.#take = take
  }

  /** What still comes goes nowhere. */
  drop(): void {
    this.#isDropping = true
    this.connection?.stream.resume()
  }

  handleCopyData({ chunk }: { readonly chunk: Buffer }): void {
    if (this.#isDropping) return
    const stream = this.connection?.stream
    const full = this.#take(chunk)
    if (full === null || stream === undefined) return
    stream.pause()
    void full.then(() => stream.resume())
  }
}

class CopyIn extends Copy {
  readonly isOpen: Promise<void>
  /** Never resolves. */
  readonly failed: Promise<never>
  readonly #opened = Promise.withResolvers<void>()
  readonly #broken = Promise.withResolvers<never>()
  #isCorked = false
  #drained: Promise<void> | null = null

  constructor(text: string) {
    super(text)
    this.isOpen = this.#opened.promise
    this.failed = this.#broken.promise
    this.failed.catch(() => {})
  }

  handleCopyInResponse(): void {
    this.#opened.resolve()
  }

  override handleError(error: Error): void {
    super.handleError(error)
    this.#opened.reject(error)
    this.#broken.reject(error)
  }

  /** @returns null, or what to wait for before the next one */
  write(chunk: Buffer): Promise<void> | null {
    const { connection } = this
    if (connection === null) return null
    const { stream } = connection
    if (!this.#isCorked) {
      // A row each is a chunk: those of one read go in one write.
      this.#isCorked = true
      stream.cork()
      process.nextTick(() => {
        this.#isCorked = false
        stream.uncork()
      })
    }
    connection.sendCopyFromChunk(chunk)
    if (!stream.writableNeedDrain) return null
    this.#drained ??= new Promise(resolve => {
      stream.once('drain', () => {
        this.#drained = null
        resolve()
      })
    })
    return this.#drained
  }

  end(): void {
    this.connection?.endCopyFrom()
  }

  fail(): void {
    this.connection?.sendCopyFail('the source has failed')
  }
}
