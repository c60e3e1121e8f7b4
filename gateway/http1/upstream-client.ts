import type { AddressPolicy } from '../../registry/lib/address.ts'
import type {
  UpstreamCall,
  UpstreamClient,
  UpstreamFault,
  UpstreamRequest,
  UpstreamSink,
} from '../upstream/client.ts'
import { TimerWheel } from './timer-wheel.ts'
import { Http1Call } from './upstream-call.ts'
import type { UpstreamTimeouts } from './upstream-connection.ts'
import { OriginPool, type PoolHost, type PoolLimits } from './upstream-pool.ts'
import { framingOf, renderRequestHead } from './upstream-request-head.ts'
import { WriteScratch } from './write-scratch.ts'

export interface Http1UpstreamOptions {
  /** Shared with the server of the same process; made here where absent. */
  readonly wheel?: TimerWheel
  readonly timeouts?: Partial<UpstreamTimeouts>
  readonly limits?: Partial<PoolLimits>
  /** Which addresses may be connected to; absent: all. Looked at on each connect, after the name. */
  readonly addresses?: AddressPolicy | null
}

const READ_BYTES = 64 * 1024

/**
 * HTTP/1.1 to `http:` origins over kept-alive connections. Requests are always written anew from
 * their parts; answers whose framing leaves any doubt are refused, and their connection with them.
 */
export class Http1UpstreamClient implements UpstreamClient, PoolHost {
  readonly wheel: TimerWheel
  readonly timeouts: UpstreamTimeouts
  readonly limits: PoolLimits
  readonly readBuffer = Buffer.allocUnsafeSlow(READ_BYTES)
  readonly scratch = new WriteScratch()
  readonly addresses: AddressPolicy | null
  readonly #pools = new Map<string, OriginPool>()
  #isClosing = false
  #onAllClosed: (() => void) | null = null

  constructor(options: Http1UpstreamOptions = {}) {
    this.wheel = options.wheel ?? new TimerWheel()
    this.addresses = options.addresses ?? null
    this.timeouts = {
      connectMs: 1000,
      headMs: 30_000,
      bodyIdleMs: 300_000,
      idleMs: 55_000,
      ...options.timeouts,
    }
    this.limits = { connectionsMax: 512, queueMax: 1024, queueMs: 2000, ...options.limits }
  }

  get isClosing(): boolean {
    return this.#isClosing
  }

  /** Connections to `origin`, or to all origins. */
  connectionCount(origin?: string): number {
    if (origin !== undefined) return this.#pools.get(origin)?.connectionCount ?? 0
    let count = 0
    for (const pool of this.#pools.values()) count += pool.connectionCount
    return count
  }

  /** Calls that wait for a connection to `origin`. */
  queueLength(origin: string): number {
    return this.#pools.get(origin)?.queueLength ?? 0
  }

  /** @throws TypeError where `origin` is not an `http:` origin: others are not this client's business */
  send(origin: string, request: UpstreamRequest, sink: UpstreamSink): UpstreamCall {
    const pool = this.#pools.get(origin) ?? new OriginPool(this, origin)
    const framing = framingOf(request)
    const head = renderRequestHead(request, framing, pool.authority)
    const call = new Http1Call(request, sink, head ?? '', framing)
    if (head === null) {
      process.nextTick(failCall, call, 'protocol', 'the request has a part that may not be sent')
    } else if (this.#isClosing) {
      process.nextTick(failCall, call, 'connect', 'the client is closed')
    } else {
      if (!this.#pools.has(origin)) this.#pools.set(origin, pool)
      pool.dispatch(call)
    }
    return call
  }

  closeIdle(origin: string): void {
    this.#pools.get(origin)?.closeIdle()
  }

  close(): Promise<void> {
    this.#isClosing = true
    for (const pool of [...this.#pools.values()]) pool.closeIdle()
    if (this.#pools.size === 0) return Promise.resolve()
    return new Promise(resolve => {
      const before = this.#onAllClosed
      this.#onAllClosed = () => {
        before?.()
        resolve()
      }
    })
  }

  onOpen(pool: OriginPool): void {
    this.#pools.set(pool.origin, pool)
  }

  onEmpty(pool: OriginPool): void {
    if (this.#pools.get(pool.origin) === pool) this.#pools.delete(pool.origin)
    if (this.#pools.size === 0) this.#onAllClosed?.()
  }
}

function failCall(call: Http1Call, kind: UpstreamFault['kind'], reason: string): void {
  call.fail({ kind, isUnsent: true, isReused: false, reason })
}
