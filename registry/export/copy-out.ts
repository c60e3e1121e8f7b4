import type { Socket } from 'node:net'
import type { Writable } from 'node:stream'
import type { Client, Connection, Submittable } from 'pg'
import { destroyPg } from '../lib/pg.ts'

/** Longest time without a byte, be it the server or the disk that is stuck; then the connection is cut. */
const SILENCE_MS = 60_000

/**
 * Streams what `COPY … TO STDOUT` sends into `sink`. The server is held up while the sink is full, so that a
 * table of any size needs no more memory than a small one.
 *
 * @returns rows
 * @throws Error of the server, or where the sink is closed meanwhile; the connection is gone then
 */
export function copyOut(client: Client, statement: string, sink: Writable): Promise<number> {
  return new Promise((resolve, reject) => {
    const onClose = () => fail(new Error('the file was closed while it was written'))
    const watchdog = setTimeout(() => fail(new Error('no byte was moved for a minute')), SILENCE_MS)
    let isOver = false
    let held: Socket | null = null
    const end = () => {
      isOver = true
      clearTimeout(watchdog)
      // The end may have come along with what filled the sink, which does not drain once it is ended.
      held?.resume()
      sink.off('close', onClose)
    }
    const fail = (error: Error) => {
      if (isOver) return
      end()
      destroyPg(client)
      reject(error)
    }
    sink.once('close', onClose)
    const query = new CopyOut(statement, {
      data(chunk, socket) {
        if (isOver) return
        watchdog.refresh()
        // The parser uses its buffer again.
        if (sink.write(Buffer.from(chunk)) || socket.isPaused()) return
        socket.pause()
        held = socket
        sink.once('drain', () => {
          if (isOver) return
          held = null
          watchdog.refresh()
          socket.resume()
        })
      },
      end(error, rows) {
        if (isOver) return
        end()
        if (error === null) resolve(rows)
        else reject(error)
      },
    })
    client.query(query)
  })
}

interface CopyEvents {
  data(chunk: Buffer, socket: Socket): void
  end(error: Error | null, rows: number): void
}

/** What node-postgres calls for the messages of one query (protocol: COPY operations). */
class CopyOut implements Submittable {
  readonly #text: string
  readonly #events: CopyEvents
  #error: Error | null = null
  #rows = 0

  constructor(text: string, events: CopyEvents) {
    this.#text = text
    this.#events = events
  }

  submit(connection: Connection): void {
    connection.query(this.#text)
  }

  handleCopyData({ chunk }: { readonly chunk: Buffer }, connection: Connection): void {
    this.#events.data(chunk, connection.stream as Socket)
  }

  handleCommandComplete({ text }: { readonly text: string }): void {
    this.#rows = Number(/^COPY (\d+)$/.exec(text)?.[1] ?? Number.NaN)
  }

  handleError(error: Error): void {
    this.#error = error
    // Without a connection nothing else comes.
    this.#events.end(error, 0)
  }

  handleReadyForQuery(): void {
    this.#events.end(this.#error, this.#rows)
  }
}
