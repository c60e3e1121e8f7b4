import { connect, type LookupFunction, type Socket } from 'node:net'
import { Fault } from '../../registry/lib/errors.ts'
import type { BodySource } from '../exchange.ts'
import type { UpstreamFault } from '../upstream/client.ts'
import { Alarm, type TimerWheel } from './timer-wheel.ts'
import type { Http1Call } from './upstream-call.ts'
import { ChunkedDecoder } from './upstream-chunked.ts'
import {
  HeadScanner,
  INTERIM_MAX,
  parseResponseHead,
  RESPONSE_HEAD_BYTES_MAX,
  type ResponseHead,
} from './upstream-response-head.ts'
import type { WriteScratch } from './write-scratch.ts'

export interface UpstreamTimeouts {
  /** TCP handshake. Standard: 1,000. */
  readonly connectMs: number
  /** From the last byte of the request to the end of the answer's head. Standard: 30,000. */
  readonly headMs: number
  /** Between two pieces of the answer's body, or until the upstream takes more of ours. */
  readonly bodyIdleMs: number
  /** How long an unused connection is kept; below the app's keep-alive of 65 s. Standard: 55,000. */
  readonly idleMs: number
}

export interface UpstreamAddress {
  readonly host: string
  readonly port: number
  /** Resolves `host`, and fails with a Fault where an address of it may not be connected to. */
  readonly lookup?: LookupFunction
}

/** What a connection needs of its pool. */
export interface ConnectionHost {
  readonly wheel: TimerWheel
  readonly timeouts: UpstreamTimeouts
  /** Shared by all connections: every read is worked off before the next one begins. */
  readonly readBuffer: Buffer
  readonly scratch: WriteScratch
  /** The call has ended and another one may use the connection. */
  onFree(connection: UpstreamConnection): void
  onClosed(connection: UpstreamConnection): void
}

type State = 'connecting' | 'idle' | 'head' | 'body' | 'closed'
type BodyMode = 'length' | 'chunked' | 'until-close'

/**
 * One keep-alive connection to a replica, serving one call at a time. Anything about the answer that
 * is in doubt destroys it, for the next call may belong to another tenant.
 */
export class UpstreamConnection {
  readonly #host: ConnectionHost
  readonly #socket: Socket
  readonly #alarm: Alarm
  #state: State = 'connecting'
  #call: Http1Call | null
  #served = 0

  // Of the answer under way.
  readonly #scanner = new HeadScanner()
  /** Head bytes of earlier reads. */
  #partial: Buffer | null = null
  #partialBytes = 0
  #interims = 0
  #mode: BodyMode = 'length'
  #left = 0
  #decoder: ChunkedDecoder | null = null
  #isKeepAlive = false

  // Of the upload under way.
  /** The request head waits here to share a write with the first body bytes. */
  #heldHead: string | null = null
  #isAwaitingDrain = false

  /** Connects at once; `call` is sent as soon as that is done. */
  constructor(host: ConnectionHost, address: UpstreamAddress, call: Http1Call) {
    this.#host = host
    this.#call = call
    call.connection = this
    this.#alarm = new Alarm(() => this.#onAlarm())
    this.#socket = connect({
      ...address,
      noDelay: true,
      onread: { buffer: host.readBuffer, callback: (n, bytes) => this.#onRead(n, bytes as Buffer) },
    })
    this.#socket.on('connect', () => this.#onConnect())
    this.#socket.on('drain', () => this.#onDrain())
    this.#socket.on('end', () => this.#onPeerEnd())
    this.#socket.on('error', error => {
      this.#fault('reset', error.message, error instanceof Fault ? error : undefined)
    })
    this.#socket.on('close', () => this.#fault('reset', 'connection closed'))
    host.wheel.arm(this.#alarm, host.timeouts.connectMs)
  }

  /** False once the peer has closed or anything went wrong: such a connection takes no call. */
  get isUsable(): boolean {
    return this.#state === 'idle' && this.#socket.writable && !this.#socket.readableEnded
  }

  /** Sends `call`; the connection must be usable. */
  start(call: Http1Call): void {
    this.#call = call
    call.connection = this
    this.#send(call)
  }

  pauseReading(): void {
    if (this.#state !== 'head' && this.#state !== 'body') return
    this.#socket.pause()
    this.#host.wheel.disarm(this.#alarm)
  }

  resumeReading(): void {
    if (this.#state !== 'head' && this.#state !== 'body') return
    this.#socket.resume()
    this.#armForAnswer()
  }

  /** Destroys the connection; its call hears nothing of it. */
  cut(): void {
    this.#close()
  }

  upload(call: Http1Call, chunk: Buffer): void {
    if (chunk.length === 0) return
    call.sentBytes += chunk.length
    if (call.framing !== 'chunked' && call.sentBytes > (call.framing as number)) {
      this.failUpload('the body is longer than its declared length')
      return
    }
    const socket = this.#socket
    const head = this.#heldHead ?? ''
    this.#heldHead = null
    const { scratch } = this.#host
    if (call.framing === 'chunked') {
      scratch.write(socket, `${head}${chunk.length.toString(16)}\r\n`, chunk, '\r\n')
    } else {
      scratch.write(socket, head, chunk, '')
    }
    if (socket.writableNeedDrain && socket.writableLength >= socket.writableHighWaterMark) {
      this.#isAwaitingDrain = true
      ;(call.request.body as BodySource).pause()
      this.#host.wheel.arm(this.#alarm, this.#host.timeouts.bodyIdleMs)
    }
  }

  endUpload(call: Http1Call): void {
    if (call.framing !== 'chunked' && call.sentBytes !== call.framing) {
      this.failUpload('the body is shorter than its declared length')
      return
    }
    call.isUploaded = true
    call.isUploading = false
    this.#isAwaitingDrain = false
    if (call.framing === 'chunked') {
      this.#socket.cork()
      this.#flushHead()
      this.#socket.write('0\r\n\r\n', 'latin1')
      this.#socket.uncork()
    } else {
      this.#flushHead()
    }
    this.#armForAnswer()
  }

  failUpload(reason: string, cause?: Error): void {
    this.#fault('request-body', reason, cause)
  }

  #onConnect(): void {
    if (this.#state !== 'connecting') return
    const call = this.#call
    if (call === null) this.#close()
    else this.#send(call)
  }

  #send(call: Http1Call): void {
    this.#state = 'head'
    this.#interims = 0
    call.sentAt = performance.now()
    const body = call.request.body
    if (body === null) {
      this.#socket.write(call.head, 'latin1')
    } else if (Buffer.isBuffer(body)) {
      this.#socket.cork()
      this.#socket.write(call.head, 'latin1')
      if (body.length > 0) this.#socket.write(body)
      this.#socket.uncork()
    } else {
      this.#heldHead = call.head
      this.#host.wheel.disarm(this.#alarm)
      call.isUploading = true
      body.start(call)
      if (this.#heldHead !== null) process.nextTick(flushHeldHead, this)
      return
    }
    if (call.isPaused) this.pauseReading()
    else this.#host.wheel.arm(this.#alarm, this.#host.timeouts.headMs)
  }

  /** For `flushHeldHead` alone. */
  flush(): void {
    if (this.#state === 'head' || this.#state === 'body') this.#flushHead()
  }

  #flushHead(): void {
    if (this.#heldHead === null) return
    this.#socket.write(this.#heldHead, 'latin1')
    this.#heldHead = null
  }

  #onDrain(): void {
    const call = this.#call
    if (!this.#isAwaitingDrain || call === null || call.isUploaded) return
    this.#isAwaitingDrain = false
    if (this.#state === 'body') this.#armForAnswer()
    else this.#host.wheel.disarm(this.#alarm)
    ;(call.request.body as BodySource).resume()
  }

  /** While an upload waits for its client the upstream owes nothing, so no time runs against it. */
  #armForAnswer(): void {
    const { wheel, timeouts } = this.#host
    const call = this.#call
    if (call === null || call.isPaused) return
    if (this.#state === 'body') wheel.arm(this.#alarm, timeouts.bodyIdleMs)
    else if (call.isUploaded) wheel.arm(this.#alarm, timeouts.headMs)
  }

  #onRead(n: number, bytes: Buffer): boolean {
    switch (this.#state) {
      case 'head':
        this.#readHead(bytes, n)
        break
      case 'body':
        this.#readBody(bytes, 0, n)
        if (this.#state === 'body') this.#armForAnswer()
        break
      default:
        // Bytes nobody asked for would be read as the next call's answer.
        this.#close()
    }
    return true
  }

  #readHead(bytes: Buffer, n: number): void {
    let from = bytes
    let end = n
    if (this.#partial !== null) {
      from = this.#appendPartial(bytes, n)
      end = this.#partialBytes
    }
    let start = 0
    for (;;) {
      const view = start === 0 ? from : from.subarray(start, end)
      const headBytes = this.#scanner.scan(view, end - start)
      if (headBytes < 0) return this.#fault('protocol', 'malformed answer head')
      if (
        headBytes > RESPONSE_HEAD_BYTES_MAX ||
        (headBytes === 0 && end - start > RESPONSE_HEAD_BYTES_MAX)
      ) {
        return this.#fault('protocol', 'answer head too large')
      }
      if (headBytes === 0) {
        this.#keepPartial(view, end - start)
        return
      }
      this.#scanner.reset()
      const head = parseResponseHead(view.toString('latin1', 0, headBytes))
      if (typeof head === 'string') return this.#fault('protocol', head)
      start += headBytes
      if (head.status >= 200) {
        this.#partial = null
        this.#partialBytes = 0
        this.#startBody(head, from, start, end)
        return
      }
      if (head.status === 101) return this.#fault('protocol', 'upgrade that nobody asked for')
      if (++this.#interims > INTERIM_MAX) return this.#fault('protocol', 'too many interim answers')
      if (start === end) {
        this.#partial = null
        this.#partialBytes = 0
        return
      }
    }
  }

  #appendPartial(bytes: Buffer, n: number): Buffer {
    const need = this.#partialBytes + n
    let partial = this.#partial as Buffer
    if (need > partial.length) {
      const larger = Buffer.allocUnsafe(Math.max(need, partial.length * 2))
      partial.copy(larger, 0, 0, this.#partialBytes)
      partial = larger
      this.#partial = larger
    }
    bytes.copy(partial, this.#partialBytes, 0, n)
    this.#partialBytes = need
    return partial
  }

  #keepPartial(view: Buffer, n: number): void {
    if (view === this.#partial) return
    const kept = Buffer.allocUnsafe(Math.max(n, 1024))
    view.copy(kept, 0, 0, n)
    this.#partial = kept
    this.#partialBytes = n
  }

  #startBody(head: ResponseHead, bytes: Buffer, start: number, end: number): void {
    const call = this.#call as Http1Call
    const isBodyless = call.request.method === 'HEAD' || head.status === 204 || head.status === 304
    this.#state = 'body'
    this.#isKeepAlive = head.isKeepAlive
    if (isBodyless) {
      this.#mode = 'length'
      this.#left = 0
      // RFC 9110 section 8.6 and RFC 9112 section 6.1 forbid both in a 204: if there is a body after all, its
      // bytes must not meet the next call.
      if (head.status === 204 && (head.isChunked || head.length)) this.#isKeepAlive = false
    } else if (head.isChunked) {
      this.#mode = 'chunked'
      this.#decoder ??= new ChunkedDecoder()
      this.#decoder.reset()
    } else if (head.length !== null) {
      this.#mode = 'length'
      this.#left = head.length
    } else {
      this.#mode = 'until-close'
      this.#isKeepAlive = false
    }
    call.sink.onHead(head.status, head.headers, head.length, isBodyless)
    if (this.#state !== 'body') return
    if (this.#mode === 'length' && this.#left === 0) this.#finish(end > start)
    else if (end > start) this.#readBody(bytes, start, end)
    if (this.#state === 'body') this.#armForAnswer()
  }

  #readBody(bytes: Buffer, start: number, end: number): void {
    const call = this.#call as Http1Call
    if (this.#mode === 'chunked') return this.#readChunked(call, bytes, start, end)
    const take = this.#mode === 'length' ? Math.min(this.#left, end - start) : end - start
    this.#left -= take
    call.sink.onBytes(bytes.subarray(start, start + take))
    if (this.#state !== 'body') return
    if (this.#mode === 'length' && this.#left === 0) this.#finish(start + take < end)
  }

  #readChunked(call: Http1Call, bytes: Buffer, start: number, end: number): void {
    const decoder = this.#decoder as ChunkedDecoder
    // In place: what is decoded never overtakes what is still to be read.
    const out = bytes.subarray(start, end)
    const result = decoder.decode(bytes, start, end, out)
    if (decoder.written > 0) {
      call.sink.onBytes(out.subarray(0, decoder.written))
      if (this.#state !== 'body') return
    }
    if (result === 'bad') this.#fault('protocol', 'malformed chunk')
    else if (result === 'end') this.#finish(start + decoder.consumed < end)
  }

  /** The answer is whole. What follows it in the same read was never asked for. */
  #finish(hasMoreBytes: boolean): void {
    const call = this.#call as Http1Call
    const isReusable = this.#isKeepAlive && !hasMoreBytes && call.isUploaded
    this.#call = null
    call.isOver = true
    call.connection = null
    call.stopUpload()
    if (isReusable && this.#socket.writable) {
      this.#served++
      this.#state = 'idle'
      this.#isAwaitingDrain = false
      if (call.isPaused) this.#socket.resume()
      this.#host.wheel.arm(this.#alarm, this.#host.timeouts.idleMs)
      this.#host.onFree(this)
    } else {
      this.#close()
    }
    call.sink.onEnd()
  }

  #onPeerEnd(): void {
    if (this.#state === 'body' && this.#mode === 'until-close') this.#finish(false)
    else this.#fault('reset', 'closed before the answer was complete')
  }

  #onAlarm(): void {
    const { timeouts } = this.#host
    if (this.#state === 'idle') this.#close()
    else if (this.#state === 'connecting') {
      this.#fault('connect', `no connection within ${timeouts.connectMs} ms`)
    } else if (this.#isAwaitingDrain) {
      this.#fault('timeout', `request body not taken for ${timeouts.bodyIdleMs} ms`)
    } else if (this.#state === 'head') {
      this.#fault('timeout', `no answer head within ${timeouts.headMs} ms`)
    } else {
      this.#fault('timeout', `answer body idle for ${timeouts.bodyIdleMs} ms`)
    }
  }

  /** Ends the connection and, where there is one, its call. Harmless when repeated. */
  #fault(kind: UpstreamFault['kind'], reason: string, cause?: Error): void {
    const isUnsent = this.#state === 'connecting'
    const call = this.#call
    this.#close()
    if (call === null) return
    const isReused = this.#served > 0
    // While it connects nothing but the guarded look-up fails with a Fault.
    const unsentKind = cause instanceof Fault ? 'refused' : 'connect'
    call.fail({
      kind: isUnsent ? unsentKind : kind,
      isUnsent,
      isReused,
      reason,
      ...(cause === undefined ? {} : { cause }),
    })
  }

  #close(): void {
    if (this.#state === 'closed') return
    this.#state = 'closed'
    const call = this.#call
    this.#call = null
    if (call !== null) {
      call.connection = null
      call.stopUpload()
    }
    this.#partial = null
    this.#heldHead = null
    this.#host.wheel.disarm(this.#alarm)
    this.#socket.destroy()
    this.#host.onClosed(this)
  }
}

function flushHeldHead(connection: UpstreamConnection): void {
  connection.flush()
}
