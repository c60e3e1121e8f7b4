import type { Socket } from 'node:net'
import { type SecureContext, TLSSocket } from 'node:tls'
import { resetSocket } from '../../registry/lib/reset-socket.ts'

/** Certificates of a listener, looked up anew for each handshake. */
export interface TlsContexts {
  readonly standard: SecureContext
  /** null: that of `standard`. */
  contextFor(serverName: string): SecureContext | null
}

/** HTTP/1.1 alone: a client that insists on another protocol is refused within the handshake (RFC 7301). */
const PROTOCOLS = ['http/1.1']

/** The server's end of TLS over an accepted connection. `secure` tells that the handshake is done. */
export class SecureSocket extends TLSSocket {
  readonly #raw: Socket

  constructor(raw: Socket, contexts: TlsContexts) {
    super(raw, {
      isServer: true,
      secureContext: contexts.standard,
      ALPNProtocols: PROTOCOLS,
      SNICallback: (name, done) => done(null, contexts.contextFor(name) ?? undefined),
    })
    this.#raw = raw
    this.disableRenegotiation()
    // What Node itself listens to on the sockets of its tls.Server: errors of TLS, which it does not turn into
    // 'error' before somebody takes the socket over.
    this.on('_tlsError', () => this.destroy())
    this.on('error', () => {})
  }

  /** A write of no bytes that fails once a reset has come; TLS itself would swallow the failure. */
  probe(): void {
    this.#raw.write('')
  }

  /** Node has it for plain TCP only; the connection beneath is one. */
  override resetAndDestroy(): this {
    resetSocket(this.#raw)
    return this.destroy()
  }
}
