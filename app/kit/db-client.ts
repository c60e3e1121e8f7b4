import type { Duplex } from 'node:stream'
import pg from 'pg'

/** How long a polite goodbye may take before the socket is cut. */
const END_MS = 2000

/** What a pool needs to know of its sockets. */
export interface ClientHooks {
  /** An error between statements (the server said goodbye, the socket broke): of no further use. */
  onError(error: Error): void
  /** Called once, when its socket is gone, however that came. */
  onClose(): void
}

/** The connect ran into its deadline. */
export class NoSessionError extends Error {
  constructor(ms: number) {
    super(`no session within ${ms} ms`)
  }
}

/**
 * A node-postgres client whose connect and end have deadlines of their own: whatever the server does,
 * a client that failed to connect holds no socket afterwards (the library's own time-out leaks late
 * connections, brianc/node-postgres#3543), and one that says goodbye is gone END_MS later.
 */
export class DbClient {
  readonly pg: pg.Client
  /** When it was ready to serve; milliseconds since the epoch. */
  openedAt = 0
  /** Since when nobody uses it; of meaning only in the pool's list of idle ones. */
  idleSince = 0
  /** The session is in an unknown state and must not serve another request. */
  isBroken = false
  /** Set by the pool where it lets go of it. */
  isClosing = false
  /** Its socket is closed. */
  isGone = false
  #endTimer: NodeJS.Timeout | undefined

  constructor(config: pg.ClientConfig, hooks: ClientHooks) {
    this.pg = new pg.Client(config)
    // Without a listener an error ends the process (brianc/node-postgres#3202).
    this.pg.on('error', error => {
      this.isBroken = true
      hooks.onError(error)
    })
    // The library's own 'end' does not come where it failed before it had anything to say.
    this.socket.once('close', () => {
      this.isGone = true
      clearTimeout(this.#endTimer)
      hooks.onClose()
    })
  }

  /**
   * TCP, TLS, login and `setup`, within `ms`.
   *
   * @param setup statements for the new session: not startup options, which poolers refuse
   * @throws Error the socket being cut by then
   */
  async open(setup: string, ms: number): Promise<void> {
    const timer = setTimeout(() => this.socket.destroy(new Error(`no session within ${ms} ms`)), ms)
    try {
      await this.pg.connect()
      await this.pg.query(setup)
      this.openedAt = Date.now()
    } catch (error) {
      // The server's last word ("password authentication failed") does not always close the socket.
      this.destroy()
      throw error
    } finally {
      clearTimeout(timer)
    }
  }

  /** Says goodbye, and cuts the socket where nobody hears it. */
  close(): void {
    this.#endTimer = setTimeout(() => this.socket.destroy(), END_MS)
    this.pg.end().catch(() => this.socket.destroy())
  }

  /** Cuts the socket at once; a statement that runs is rejected. */
  destroy(): void {
    this.isBroken = true
    this.socket.destroy()
  }

  /** The raw socket, or the TLS one around it once that is made. */
  get socket(): Duplex & { readonly remoteAddress?: string; readonly remotePort?: number } {
    // Not in the types, but stable since pg 7: its own pool destroys it in the same way.
    return (this.pg as unknown as { connection: { stream: Duplex } }).connection.stream
  }

  /** Process id and secret of the session, by which another connection may cancel its statement. */
  get cancelKey(): { readonly processId: number; readonly secret: number } | null {
    const { processID, secretKey } = this.pg as unknown as {
      processID: number | null
      secretKey: number | null
    }
    return processID === null || secretKey === null
      ? null
      : { processId: processID, secret: secretKey }
  }
}
