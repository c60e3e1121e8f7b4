import { once } from 'node:events'
import { type AddressInfo, createServer, type Server, type Socket } from 'node:net'
import { networkOf } from '../../registry/lib/address.ts'
import type { Fault } from '../../registry/lib/errors.ts'
import type { Log } from '../../registry/lib/log.ts'
import type { Client, Exchange } from '../exchange.ts'
import type { TlsContexts } from './secure-socket.ts'
import { type ConnectionHost, ServerConnection } from './server-connection.ts'
import { chooseEvicted } from './server-eviction.ts'
import {
  type AcceptLimits,
  type ServerLimits,
  type ServerTimeouts,
  STANDARD_LIMITS,
  STANDARD_TIMEOUTS,
} from './server-limits.ts'
import { Llhttp } from './server-llhttp.ts'
import {
  Opening,
  type OpeningFailure,
  type OpeningHost,
  type ProxyPeers,
} from './server-opening.ts'
import { DateClock, transportSecurity } from './server-reply-head.ts'
import { Alarm, TimerWheel } from './timer-wheel.ts'
import { WriteScratch } from './write-scratch.ts'

export interface Http1ServerOptions {
  /** Gets every request with a sound head. It must answer or cut each one, and must not throw. */
  readonly handle: (exchange: Exchange) => void
  readonly log: Log
  /** Shared with the upstream client of the same process; made here where absent. */
  readonly wheel?: TimerWheel
  readonly timeouts?: Partial<ServerTimeouts>
  readonly limits?: Partial<ServerLimits & AcceptLimits>
  /** A proxy in front: the cap per address is not for it. Standard: none. */
  readonly carriesManyClients?: (address: string) => boolean
  /** Hears of requests that were refused before they became an exchange. */
  readonly onRefused?: (fault: Fault, client: Client) => void
  /** Speaks TLS where given. */
  readonly tls?: TlsContexts | null
  /** Expects a PROXY header at the head of each connection where given. */
  readonly proxy?: ProxyPeers | null
  /** Strict-Transport-Security of answers to clients that came by TLS, in seconds. Standard: 0, none. */
  readonly hstsMaxAgeS?: number
  /** Hears of connections that ended before their first request could come. */
  readonly onOpeningFailed?: (reason: OpeningFailure) => void
}

const READ_BYTES = 64 * 1024
/** Of a cap's connections so many are evicted at a time, for to choose them all are looked at. */
const EVICTED_SHARE = 1 / 256

/** HTTP/1.1 for clients: accepts connections within bounds and lets them go again. */
export class Http1Server implements ConnectionHost, OpeningHost {
  readonly wheel: TimerWheel
  readonly llhttp: Llhttp
  readonly timeouts: ServerTimeouts
  readonly limits: ServerLimits & AcceptLimits
  readonly readBuffer = Buffer.allocUnsafeSlow(READ_BYTES)
  readonly scratch = new WriteScratch()
  readonly tls: TlsContexts | null
  readonly proxy: ProxyPeers | null
  readonly tlsFields: string
  readonly #options: Http1ServerOptions
  readonly #server: Server
  readonly #connections = new Set<ServerConnection>()
  readonly #openings = new Set<Opening>()
  readonly #perNetwork = new Map<string, number>()
  readonly #clock = new DateClock()
  #isDraining = false
  #onEmpty: (() => void) | null = null
  /** Connections turned away by a cap since the start. */
  turnedAway = 0
  /** Quiet connections ended to make room for others since the start. */
  evicted = 0

  constructor(options: Http1ServerOptions) {
    this.#options = options
    this.tls = options.tls ?? null
    this.proxy = options.proxy ?? null
    this.tlsFields = transportSecurity(options.hstsMaxAgeS ?? 0)
    this.wheel = options.wheel ?? new TimerWheel()
    this.timeouts = { ...STANDARD_TIMEOUTS, ...options.timeouts }
    this.limits = { ...STANDARD_LIMITS, ...options.limits }
    this.llhttp = new Llhttp(this.limits.headFieldsMax)
    this.#server = createServer({ allowHalfOpen: true, pauseOnConnect: true, noDelay: true })
    this.#server.on('connection', socket => this.#accept(socket))
    this.#server.on('error', error => options.log.error({ err: error }, 'listener failed'))
  }

  get connectionCount(): number {
    return this.#connections.size + this.#openings.size
  }

  get openingMs(): number {
    return this.timeouts.headMs
  }

  get isDraining(): boolean {
    return this.#isDraining
  }

  /** Rejects where the port cannot be had. */
  async listen(port: number, host?: string): Promise<AddressInfo> {
    this.#server.listen({ port, backlog: 4096, ...(host === undefined ? {} : { host }) })
    await once(this.#server, 'listening')
    return this.address
  }

  get address(): AddressInfo {
    return this.#server.address() as AddressInfo
  }

  /**
   * Accepts no more, ends idle connections and the others with the answer under way; what is still
   * open after `deadlineMs` is cut. For `idleGraceMs` connections may go on: the next answer on each
   * says that it is the last, so that no client loses a request to a connection that just ends.
   */
  async drain(deadlineMs: number, idleGraceMs = 0): Promise<void> {
    this.#isDraining = true
    this.#server.close()
    if (idleGraceMs === 0) this.#retireAll()
    if (this.connectionCount === 0) return
    const grace = new Alarm(() => this.#retireAll())
    const deadline = new Alarm(() => this.#cutAll())
    if (idleGraceMs > 0) this.wheel.arm(grace, idleGraceMs)
    this.wheel.arm(deadline, deadlineMs)
    await new Promise<void>(resolve => {
      this.#onEmpty = resolve
    })
    this.wheel.disarm(grace)
    this.wheel.disarm(deadline)
  }

  /** Accepts no more and cuts everything. */
  close(): void {
    this.#isDraining = true
    this.#server.close()
    this.#cutAll()
  }

  date(): string {
    return this.#clock.now()
  }

  handle(exchange: Exchange): void {
    try {
      this.#options.handle(exchange)
    } catch (error) {
      this.#options.log.error({ err: error }, 'the handler threw')
      exchange.reply.abort()
    }
  }

  onRefused(fault: Fault, client: Client): void {
    this.#options.log.debug({ reason: fault.reason, client: client.address }, 'request refused')
    this.#options.onRefused?.(fault, client)
  }

  onDefect(reason: string): void {
    this.#options.log.error({ reason }, 'answer cut')
  }

  onClosed(connection: ServerConnection): void {
    if (!this.#connections.delete(connection)) return
    this.#dismiss(connection.network)
    if (this.connectionCount === 0) this.#onEmpty?.()
  }

  admit(address: string): string | null {
    const network = networkOf(address)
    if (!this.#hasRoomAt(network, address)) {
      this.turnedAway++
      return null
    }
    this.#perNetwork.set(network, (this.#perNetwork.get(network) ?? 0) + 1)
    return network
  }

  onOpened(opening: Opening, socket: Socket, address: string, isTls: boolean): void {
    this.#openings.delete(opening)
    this.#connections.add(new ServerConnection(this, socket, address, opening.network, isTls))
  }

  onOpeningFailed(opening: Opening, reason: OpeningFailure): void {
    if (!this.#openings.delete(opening)) return
    if (opening.admitted !== null) this.#dismiss(opening.admitted)
    this.#options.onOpeningFailed?.(reason)
    if (this.connectionCount === 0) this.#onEmpty?.()
  }

  #dismiss(network: string): void {
    const count = (this.#perNetwork.get(network) ?? 1) - 1
    if (count === 0) this.#perNetwork.delete(network)
    else this.#perNetwork.set(network, count)
  }

  /**
   * Takes the accepted connection's handle over into a socket that reads into our own buffer: `onread`
   * is an option of sockets alone, and net.Server has none to pass it on. This saves a 64 KiB
   * allocation and the stream machinery per read. The first socket is left without a handle.
   */
  #accept(accepted: Socket): void {
    const owner = accepted as Socket & { _handle: unknown }
    const handle = owner._handle
    const address = accepted.remoteAddress
    // An address is missing where the client left before it was accepted.
    if (handle === null || address === undefined || this.#isDraining) {
      accepted.destroy()
      return
    }
    // Behind a PROXY header the client's own address is yet to come.
    const isKnown = this.proxy === null
    if ((isKnown && !this.#hasRoomAt(networkOf(address), address)) || !this.#hasRoom()) {
      this.turnedAway++
      accepted.resetAndDestroy()
      return
    }
    if (this.tls !== null || this.proxy !== null) {
      const opening = new Opening(this, accepted, address)
      this.#openings.add(opening)
      opening.start()
      return
    }
    const network = this.admit(address)
    if (network === null) {
      accepted.resetAndDestroy()
      return
    }
    owner._handle = null
    this.#connections.add(new ServerConnection(this, handle, address, network))
  }

  // Both prefer ending a quiet connection to refusing a new one.

  #hasRoomAt(network: string, address: string): boolean {
    const { connectionsPerAddressMax } = this.limits
    const count = this.#perNetwork.get(network) ?? 0
    if (count < connectionsPerAddressMax) return true
    if (this.#options.carriesManyClients?.(address) === true) return true
    return this.#evict(this.#quietOnes(network), connectionsPerAddressMax)
  }

  #hasRoom(): boolean {
    const { connectionsMax } = this.limits
    if (this.connectionCount < connectionsMax) return true
    return this.#evict(this.#quietOnes(), connectionsMax)
  }

  #evict(quiet: Iterable<ServerConnection | Opening>, cap: number): boolean {
    const evicted = chooseEvicted(quiet, this.#perNetwork, Math.ceil(cap * EVICTED_SHARE))
    for (const connection of evicted) connection.evict()
    this.evicted += evicted.length
    return evicted.length > 0
  }

  /** Openings first: where networks hold as many, a handshake goes before a client that is served. */
  *#quietOnes(network?: string): Generator<ServerConnection | Opening> {
    for (const opening of this.#openings) {
      if (network === undefined || opening.network === network) yield opening
    }
    for (const connection of this.#connections) {
      if (connection.isQuiet && (network === undefined || connection.network === network)) {
        yield connection
      }
    }
  }

  #retireAll(): void {
    for (const opening of [...this.#openings]) opening.cut()
    for (const connection of [...this.#connections]) connection.retire()
  }

  #cutAll(): void {
    for (const opening of [...this.#openings]) opening.cut()
    for (const connection of [...this.#connections]) connection.reset()
  }
}
