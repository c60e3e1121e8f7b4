import type { Socket } from 'node:net'
import { networkOf } from '../../registry/lib/address.ts'
import { type ProxyVersions, readProxyHeader } from './proxy-protocol.ts'
import { SecureSocket, type TlsContexts } from './secure-socket.ts'
import type { Quiet } from './server-eviction.ts'
import { Alarm, type TimerWheel } from './timer-wheel.ts'

/** Load balancers that begin each connection with a PROXY header. */
export interface ProxyPeers {
  readonly versions: ProxyVersions
  /** Of anyone else no header is believed, and none but theirs can be told apart: he is turned away. */
  trusts(address: string): boolean
}

/** Why a connection ended before its first request. */
export type OpeningFailure = 'untrusted' | 'proxy-header' | 'capped' | 'tls' | 'too-slow' | 'left'

/** What an opening needs of its server. */
export interface OpeningHost {
  readonly wheel: TimerWheel
  /** For all of it, in milliseconds. */
  readonly openingMs: number
  readonly tls: TlsContexts | null
  readonly proxy: ProxyPeers | null
  /** Counts a connection of `address`, by its network, which it returns; null where that has its share. */
  admit(address: string): string | null
  onOpened(opening: Opening, socket: Socket, address: string, isTls: boolean): void
  onOpeningFailed(opening: Opening, reason: OpeningFailure): void
}

/**
 * An accepted connection on its way to its first request: PROXY header where one is due, then the TLS
 * handshake. Both must be done within `openingMs`. It ends with `onOpened` or `onOpeningFailed`.
 */
export class Opening implements Quiet {
  readonly #host: OpeningHost
  readonly #raw: Socket
  readonly #peer: string
  readonly #alarm: Alarm
  /** The network that was admitted: the client's. */
  admitted: string | null = null
  #address = ''
  #isTls = false
  #early: Buffer | null = null
  #secure: SecureSocket | null = null
  #hasTlsFailed = false
  #isOver = false

  readonly #onBytes = (bytes: Buffer) => this.#readHeader(bytes)
  readonly #onClose = () => this.#fail(this.#hasTlsFailed ? 'tls' : 'left')

  constructor(host: OpeningHost, accepted: Socket, peer: string) {
    this.#host = host
    this.#raw = accepted
    this.#peer = peer
    this.#alarm = new Alarm(() => this.#fail('too-slow'))
  }

  start(): void {
    const { proxy, wheel, openingMs } = this.#host
    const raw = this.#raw
    // 'close' follows and does the work.
    raw.on('error', () => {})
    raw.on('close', this.#onClose)
    wheel.arm(this.#alarm, openingMs)
    if (proxy === null) return this.#admit(this.#peer)
    if (!proxy.trusts(this.#peer)) return this.#fail('untrusted')
    raw.on('data', this.#onBytes)
    raw.on('end', this.#onClose)
    raw.resume()
  }

  // For eviction: no request of it can be lost.

  get network(): string {
    return this.admitted ?? networkOf(this.#peer)
  }

  readonly isInHead = true

  get quietSinceTick(): number {
    const { wheel, openingMs } = this.#host
    return this.#alarm.dueTick - Math.ceil(openingMs / wheel.tickMs)
  }

  evict(): void {
    this.#fail('capped')
  }

  /** Ends it without a word. */
  cut(): void {
    this.#fail('left')
  }

  #readHeader(bytes: Buffer): void {
    const { versions } = this.#host.proxy as ProxyPeers
    const all = this.#early === null ? bytes : Buffer.concat([this.#early, bytes])
    const header = readProxyHeader(all, versions)
    if (header === 'bad') return this.#fail('proxy-header')
    if (header === 'more') {
      this.#early = all
      return
    }
    const raw = this.#raw
    this.#early = null
    raw.off('data', this.#onBytes)
    raw.off('end', this.#onClose)
    raw.pause()
    if (all.length > header.bytes) raw.unshift(all.subarray(header.bytes))
    this.#isTls = header.isTls
    this.#admit(header.address ?? this.#peer)
  }

  #admit(address: string): void {
    const { tls } = this.#host
    const network = this.#host.admit(address)
    if (network === null) return this.#fail('capped')
    this.admitted = network
    this.#address = address
    if (tls === null) return this.#open(this.#raw)
    const secure = new SecureSocket(this.#raw, tls)
    this.#secure = secure
    secure.on('secure', () => this.#open(secure))
    secure.on('_tlsError', () => {
      this.#hasTlsFailed = true
    })
    secure.on('end', this.#onClose)
    secure.on('close', this.#onClose)
  }

  #open(socket: Socket): void {
    if (this.#isOver) return
    this.#isOver = true
    this.#host.wheel.disarm(this.#alarm)
    this.#raw.off('close', this.#onClose)
    this.#secure?.off('end', this.#onClose).off('close', this.#onClose)
    const isTls = this.#isTls || this.#secure !== null
    this.#host.onOpened(this, socket, this.#address, isTls)
  }

  #fail(reason: OpeningFailure): void {
    if (this.#isOver) return
    this.#isOver = true
    this.#host.wheel.disarm(this.#alarm)
    this.#early = null
    this.#host.onOpeningFailed(this, reason)
    if (reason === 'untrusted' || reason === 'capped') this.#raw.resetAndDestroy()
    this.#secure?.destroy()
    this.#raw.destroy()
  }
}
