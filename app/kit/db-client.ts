import type { Duplex } from 'node:stream'
import pg from 'pg'

/** How long a polite goodbye may take before the socket is cut. */
const END_MS = 2000

/** What a pool needs to know of its sockets. */
export interface ClientHooks {
  /** Called as the client is made, before it connects. */
  onOpen(): void
  /** Called once, when its socket is gone. */
  onClose(): void
}

/**
 * A node-postgres client whose connect and end have deadlines of their own: whatever the server does,
 * a client that failed to connect holds no socket afterwards (the library's own time-out leaks late
 * connections, brianc/node-postgres#3543), and one that says goodbye is gone END_MS later.
 */
export function makeClientClass(connectMs: number, hooks: ClientHooks): typeof pg.Client {
  return class DeadlineClient extends pg.Client {
    constructor(config?: string | pg.ClientConfig) {
      super(config)
      hooks.onOpen()
      this.once('end', () => hooks.onClose())
    }

    override connect(): Promise<this>
    override connect(callback: (error: Error) => void): void
    override connect(callback?: (error: Error) => void): Promise<this> | void {
      if (callback === undefined) {
        return new Promise((resolve, reject) => {
          this.connect(error => (error ? reject(error) : resolve(this)))
        })
      }
      const timer = setTimeout(
        () => this.#socket.destroy(new Error(`no session within ${connectMs} ms`)),
        connectMs,
      )
      super.connect((error: Error) => {
        clearTimeout(timer)
        // The server's last word ("password authentication failed") does not always close the socket.
        if (error) this.#socket.destroy()
        callback(error)
      })
    }

    override end(): Promise<void>
    override end(callback: (error: Error) => void): void
    override end(callback?: (error: Error) => void): Promise<void> | void {
      const timer = setTimeout(() => this.#socket.destroy(), END_MS)
      this.once('end', () => clearTimeout(timer))
      if (callback === undefined) return super.end()
      super.end(callback)
    }

    /** The raw socket, or the TLS one around it once that is made. */
    get #socket(): Duplex {
      return (this as unknown as { connection: { stream: Duplex } }).connection.stream
    }
  }
}
