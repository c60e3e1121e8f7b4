import type { AddressPolicy } from '../../registry/lib/address.ts'
import { guardedLookup, requireAllowedLiteral } from '../../registry/lib/guarded-socket.ts'
import type { UpstreamFault } from '../upstream/client.ts'
import { Alarm } from './timer-wheel.ts'
import type { Http1Call } from './upstream-call.ts'
import {
  type ConnectionHost,
  type UpstreamAddress,
  UpstreamConnection,
} from './upstream-connection.ts'
import type { WriteScratch } from './write-scratch.ts'

export interface PoolLimits {
  /** Connections to one origin, idle ones included. Standard: 512. */
  readonly connectionsMax: number
  /** Calls that wait for a connection of one origin. Standard: 1,024. */
  readonly queueMax: number
  /** How long a call waits for a connection. Standard: 2,000. */
  readonly queueMs: number
}

/** What a pool needs of its client. */
export interface PoolHost
  extends Pick<ConnectionHost, 'wheel' | 'timeouts' | 'readBuffer' | 'scratch'> {
  readonly limits: PoolLimits
  readonly isClosing: boolean
  /** Which addresses may be connected to; null: all. */
  readonly addresses: AddressPolicy | null
  /** The pool holds a connection again: it may have been empty for a moment within `dispatch`. */
  onOpen(pool: OriginPool): void
  /** The pool holds no connection and no call. */
  onEmpty(pool: OriginPool): void
}

/**
 * The connections to one origin. Last in, first out: a burst's spare connections then grow old and
 * time out, and the one reused is the least likely to have been closed by the peer meanwhile.
 */
export class OriginPool implements ConnectionHost {
  readonly origin: string
  readonly authority: string
  readonly wheel: ConnectionHost['wheel']
  readonly timeouts: ConnectionHost['timeouts']
  readonly readBuffer: Buffer
  readonly scratch: WriteScratch
  readonly #host: PoolHost
  readonly #address: UpstreamAddress
  readonly #idle: UpstreamConnection[] = []
  readonly #all = new Set<UpstreamConnection>()
  /** The replica leaves: until somebody calls it again no connection is kept. */
  #isLeft = false
  /** In order of arrival, each with its deadline. */
  readonly #queue = new Map<Http1Call, Alarm>()

  constructor(host: PoolHost, origin: string) {
    const url = new URL(origin)
    if (url.protocol !== 'http:') throw new TypeError(`not an http origin: ${origin}`)
    this.origin = origin
    this.authority = url.host
    // An IPv6 address stands in brackets in a URL and without them in a socket address.
    this.#address = {
      host: url.hostname.replace(/^\[|\]$/g, ''),
      port: url.port === '' ? 80 : Number(url.port),
      ...(host.addresses === null ? {} : { lookup: guardedLookup(host.addresses) }),
    }
    this.#host = host
    this.wheel = host.wheel
    this.timeouts = host.timeouts
    this.readBuffer = host.readBuffer
    this.scratch = host.scratch
  }

  get connectionCount(): number {
    return this.#all.size
  }

  get queueLength(): number {
    return this.#queue.size
  }

  dispatch(call: Http1Call): void {
    this.#isLeft = false
    for (;;) {
      const connection = this.#idle.pop()
      if (connection === undefined) break
      if (connection.isUsable) return connection.start(call)
      connection.cut()
    }
    if (this.#all.size < this.#host.limits.connectionsMax) this.#open(call)
    else if (this.#queue.size < this.#host.limits.queueMax) this.#enqueue(call)
    else process.nextTick(failCall, call, unsent('queue', 'connection queue full'))
  }

  /** Those in use follow when their call has ended. */
  closeIdle(): void {
    this.#isLeft = true
    for (const connection of this.#idle.splice(0)) connection.cut()
  }

  onFree(connection: UpstreamConnection): void {
    const next = this.#takeQueued()
    if (next !== null) connection.start(next)
    else if (this.#host.isClosing || this.#isLeft) connection.cut()
    else this.#idle.push(connection)
  }

  onClosed(connection: UpstreamConnection): void {
    if (!this.#all.delete(connection)) return
    const at = this.#idle.indexOf(connection)
    if (at >= 0) this.#idle.splice(at, 1)
    const next = this.#takeQueued()
    if (next !== null) this.#open(next)
    this.#reportEmpty()
  }

  #open(call: Http1Call): void {
    const refusal = this.#refusal()
    if (refusal !== null) {
      process.nextTick(failCall, call, { ...unsent('refused', refusal.message), cause: refusal })
      return this.#reportEmpty()
    }
    this.#all.add(new UpstreamConnection(this, this.#address, call))
    this.#host.onOpen(this)
  }

  /** Where the origin is an address and no name, there is no look-up to refuse it. */
  #refusal(): Error | null {
    const { addresses } = this.#host
    if (addresses === null) return null
    try {
      requireAllowedLiteral(addresses, this.#address.host)
      return null
    } catch (error) {
      return error as Error
    }
  }

  #enqueue(call: Http1Call): void {
    const alarm = new Alarm(() => {
      call.fail(
        unsent('queue-timeout', `no free connection within ${this.#host.limits.queueMs} ms`),
      )
    })
    call.leaveQueue = () => {
      this.#dequeue(call, alarm)
      this.#reportEmpty()
    }
    this.#queue.set(call, alarm)
    this.wheel.arm(alarm, this.#host.limits.queueMs)
  }

  #takeQueued(): Http1Call | null {
    for (const [call, alarm] of this.#queue) {
      this.#dequeue(call, alarm)
      return call
    }
    return null
  }

  #dequeue(call: Http1Call, alarm: Alarm): void {
    call.leaveQueue = null
    this.wheel.disarm(alarm)
    this.#queue.delete(call)
  }

  #reportEmpty(): void {
    if (this.#all.size === 0 && this.#queue.size === 0) this.#host.onEmpty(this)
  }
}

function unsent(kind: UpstreamFault['kind'], reason: string): UpstreamFault {
  return { kind, isUnsent: true, isReused: false, reason }
}

function failCall(call: Http1Call, fault: UpstreamFault): void {
  call.fail(fault)
}
