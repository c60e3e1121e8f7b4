import type { Socket } from 'node:net'
import { type ErrorCode, Fault, faultBody, faultFields } from '../../registry/lib/errors.ts'
import { resetSocket } from '../../registry/lib/reset-socket.ts'
import { type Client, type Exchange, makeExchange, type UpgradeSocket } from '../exchange.ts'
import { SocketReply } from '../socket-reply.ts'
import { RequestBody } from './server-body.ts'
import type { ServerLimits, ServerTimeouts } from './server-limits.ts'
import type { Llhttp } from './server-llhttp.ts'
import { MessageReader } from './server-message-reader.ts'
import { ServerReply } from './server-reply.ts'
import { renderReplyHead } from './server-reply-head.ts'
import { isRefusal, type RequestHead } from './server-request-head.ts'
import { openSocket, probeSocket } from './server-socket.ts'
import { UpgradedSocket } from './server-upgraded.ts'
import { Alarm, type TimerWheel } from './timer-wheel.ts'
import type { WriteScratch } from './write-scratch.ts'

/** What a connection needs of its server. */
export interface ConnectionHost {
  readonly wheel: TimerWheel
  readonly llhttp: Llhttp
  readonly timeouts: ServerTimeouts
  readonly limits: ServerLimits
  /** Shared by all connections: every read is worked off before the next one begins. */
  readonly readBuffer: Buffer
  readonly scratch: WriteScratch
  readonly isDraining: boolean
  /** Lines of the head of every answer to a client that came by TLS. */
  readonly tlsFields: string
  date(): string
  handle(exchange: Exchange): void
  onRefused(fault: Fault, client: Client): void
  onDefect(reason: string): void
  onClosed(connection: ServerConnection): void
}

/** Bytes kept that are not wanted yet; beyond them, and the read they came with, nothing is read. */
const KEPT_BYTES_MAX = 16 * 1024

/**
 * While nothing is read, a departure is looked for this often: a client that left frees its replica
 * within a second.
 */
const PROBE_MS = 250

/**
 * `idle`: between requests or within a head. `exchange`: a request is being answered or its unread
 * body dropped. `linger`: the last answer is out, the client's rest is dropped until it closes.
 */
type Phase = 'idle' | 'exchange' | 'linger' | 'upgraded' | 'closed'

/** One client connection: its requests one after the other, each answered before the next is parsed. */
export class ServerConnection {
  readonly client: Client
  /** Of the client, as the caps count it. */
  readonly network: string
  readonly #host: ConnectionHost
  readonly #socket: Socket
  readonly #alarm: Alarm
  readonly #reader: MessageReader
  #phase: Phase = 'idle'
  #isTaking = false
  /** The client has closed its side. */
  #hasPeerEnded = false
  /** Bytes that came before they were wanted. */
  #pending: Buffer | null = null
  /** The client leaves earlier answers unread: its next request waits until it has taken them. */
  #isClogged = false
  #isReading = true
  /** No request has come yet. */
  #isFresh = true

  // Of the exchange under way.
  #reply: ServerReply | null = null
  #body: RequestBody | null = null
  #isKeepAlive = true
  #isHttp11 = true
  isHeadRequest = false
  #expectsContinue = false
  #droppedBytes = 0
  #upgraded: UpgradedSocket | null = null

  /** @param source see `openSocket` */
  constructor(
    host: ConnectionHost,
    source: unknown,
    address: string,
    network: string,
    isTls = false,
  ) {
    this.#host = host
    this.network = network
    this.client = { address, isTls }
    this.#alarm = new Alarm(() => this.#onAlarm())
    this.#reader = new MessageReader(host.llhttp, host.limits.headBytesMax)
    this.#socket = openSocket(source, host.readBuffer, (n, bytes) => this.#onRead(n, bytes))
    this.#socket.on('drain', () => this.#onDrain())
    this.#socket.on('end', () => this.#onPeerEnd())
    this.#socket.on('finish', () => this.#onFinish())
    // 'close' follows and does the work.
    this.#socket.on('error', () => {})
    this.#socket.on('close', () => this.#close())
    host.wheel.arm(this.#alarm, host.timeouts.headMs)
  }

  get isIdle(): boolean {
    return this.#phase === 'idle' && this.#reader.headBytes === 0
  }

  /** No request is being served and no answer is still on its way: it may be evicted. */
  get isQuiet(): boolean {
    return this.#phase === 'idle' && this.#pending === null && this.#socket.writableLength === 0
  }

  get isInHead(): boolean {
    return this.#reader.headBytes > 0
  }

  get quietSinceTick(): number {
    const { headMs, keepAliveMs } = this.#host.timeouts
    // The alarm says it, so that no request has to ask for the time.
    const waitMs = this.#isFresh || this.isInHead ? headMs : keepAliveMs
    return this.#alarm.dueTick - Math.ceil(waitMs / this.#host.wheel.tickMs)
  }

  date(): string {
    return this.#host.date()
  }

  /** Makes room for another one: ends a quiet connection at once. */
  evict(): void {
    this.#socket.destroy()
    this.#close()
  }

  /** Rendered fields that every answer on this connection ends with. */
  get standingFields(): string {
    return this.client.isTls ? this.#host.tlsFields : ''
  }

  /** For a drain: an idle connection ends now, another one with its answer. */
  retire(): void {
    if (this.isIdle) this.#linger()
    else if (this.#phase === 'exchange') this.#isKeepAlive = false
  }

  /** Cuts the connection; a client in the midst of an answer sees a reset. */
  reset(): void {
    if (this.#phase === 'closed') return
    resetSocket(this.#socket)
    this.#close()
  }

  defect(reason: string): void {
    this.#host.onDefect(reason)
    this.reset()
  }

  // What the reply calls.

  /**
   * What the answer says about the connection.
   *
   * @param isWhole the answer is complete, so nobody will read what is left of the request's body
   */
  connectionField(isWhole: boolean): 'close' | 'keep-alive' | null {
    if (this.#host.isDraining) this.#isKeepAlive = false
    const body = this.#body
    if (body !== null && !body.isComplete) {
      // A client that was not told to continue may send its body or not (RFC 9110 section 10.1.1).
      if (this.#expectsContinue) this.#isKeepAlive = false
      if (isWhole && body.left > this.#host.limits.dropBytesMax) this.#isKeepAlive = false
    }
    if (!this.#isKeepAlive) return 'close'
    return this.#isHttp11 ? null : 'keep-alive'
  }

  /** One write of all three; `chunk` is read before this returns. */
  writeCopy(prefix: string, chunk: Buffer, suffix: string): void {
    this.#host.scratch.write(this.#socket, prefix, chunk, suffix)
  }

  closeAfterReply(): void {
    this.#isKeepAlive = false
  }

  onWriteStall(): void {
    this.#host.wheel.arm(this.#alarm, this.#host.timeouts.writeStallMs)
  }

  onWriteProgress(): void {
    if (this.#hasPeerEnded) this.#host.wheel.arm(this.#alarm, this.#host.timeouts.halfCloseMs)
  }

  onReplyDone(): void {
    if (this.#phase !== 'exchange') return
    this.#reply = null
    const body = this.#body
    if (!this.#isKeepAlive) return this.#linger()
    if (body !== null && !body.isComplete) {
      if (this.#expectsContinue) return this.#linger()
      // The next request stands behind what is left of this one.
      body.isDropped = true
      this.#host.wheel.arm(this.#alarm, this.#host.timeouts.lingerMs)
      this.#pump()
      return
    }
    this.#nextRequest()
  }

  // What the body calls.

  onBodyFlow(body: RequestBody, isStart: boolean): void {
    if (body !== this.#body || body.isComplete || this.#phase !== 'exchange') return
    if (isStart && this.#expectsContinue) {
      this.#expectsContinue = false
      if (this.#reply?.isHeadSent === false) {
        this.#socket.write('HTTP/1.1 100 Continue\r\n\r\n', 'latin1')
      }
    }
    body.rate.restart(performance.now())
    if (this.#reply?.isStalled !== true) {
      this.#host.wheel.arm(this.#alarm, this.#host.timeouts.bodyIdleMs)
    }
    this.#pump()
  }

  onBodyPause(body: RequestBody): void {
    if (body !== this.#body || body.isComplete || this.#phase !== 'exchange') return
    this.#pauseReading()
    this.#armProbe()
  }

  // Reading.

  #onRead(n: number, bytes: Buffer): void {
    if (this.#phase === 'idle' || this.#phase === 'exchange') {
      if (this.#pending === null) this.#take(bytes, 0, n)
      else this.#keep(bytes, 0, n)
    } else if (this.#phase === 'upgraded') {
      this.#upgraded?.feed(bytes.subarray(0, n))
    } else if (this.#phase === 'linger') {
      this.#droppedBytes += n
      if (this.#droppedBytes > this.#host.limits.dropBytesMax * 16) this.reset()
    }
  }

  /** Works off bytes until they are used up or not wanted yet. */
  #take(bytes: Buffer, start: number, end: number): void {
    this.#isTaking = true
    let at = start
    while (at < end) {
      if (this.#phase === 'idle' && !this.#isClogged) {
        at = this.#takeHead(bytes, at, end)
      } else if (this.#phase === 'exchange' && this.#wantsBody()) {
        at = this.#takeBody(bytes, at, end)
      } else {
        break
      }
    }
    this.#isTaking = false
    if (at < end) {
      if (this.#phase === 'exchange' || this.#phase === 'idle') this.#keep(bytes, at, end)
      else if (this.#phase === 'upgraded') this.#upgraded?.feed(bytes.subarray(at, end))
    } else if (this.#phase === 'idle' || this.#phase === 'exchange') {
      this.#resumeReading()
    }
    if (!this.#hasPeerEnded) return
    if (this.#pending === null) this.#onInputOver()
    else if (this.#body?.isComplete !== false)
      this.#host.wheel.arm(this.#alarm, this.#host.timeouts.halfCloseMs)
  }

  #wantsBody(): boolean {
    const body = this.#body
    return body !== null && !body.isComplete && !body.isBroken && body.isFlowing
  }

  /**
   * Keeps what is not wanted yet. Behind a request that is in whole, reading goes on for a while, for
   * only a socket that is read from tells that its peer has left; otherwise it stops.
   */
  #keep(bytes: Buffer, start: number, end: number): void {
    const before = this.#pending
    const kept = Buffer.allocUnsafe((before?.length ?? 0) + end - start)
    before?.copy(kept)
    bytes.copy(kept, before?.length ?? 0, start, end)
    this.#pending = kept
    const isRequestIn = this.#phase === 'exchange' && this.#body?.isComplete !== false
    if (isRequestIn && kept.length < KEPT_BYTES_MAX) return this.#readOn()
    this.#pauseReading()
    this.#armProbe()
  }

  /**
   * Where nothing is read, nothing tells that the client has left, so it is looked for now and then.
   */
  #armProbe(): void {
    if (this.#phase !== 'exchange' || this.#hasPeerEnded || this.#reply?.isStalled === true) return
    this.#host.wheel.arm(this.#alarm, PROBE_MS)
  }

  /** Goes on with kept bytes, never within the caller's stack, for it is in the midst of its own work. */
  #pump(): void {
    if (this.#isTaking) return
    if (this.#pending !== null) process.nextTick(goOn, this)
    else this.#resumeReading()
  }

  /** For `goOn` alone. */
  workOffPending(): void {
    const pending = this.#pending
    if (pending === null || this.#isTaking || this.#isClogged) return
    if (this.#phase !== 'idle' && !(this.#phase === 'exchange' && this.#wantsBody())) return
    this.#pending = null
    this.#take(pending, 0, pending.length)
  }

  #pauseReading(): void {
    if (!this.#isReading) return
    this.#isReading = false
    this.#socket.pause()
  }

  #resumeReading(): void {
    if (this.#pending !== null || this.#isClogged) return
    const body = this.#body
    // A paused consumer is what stops the client. A body not yet asked for may fill one read.
    if (body?.isStarted === true && !body.isComplete && !body.isFlowing) return
    this.#readOn()
  }

  #readOn(): void {
    if (this.#isReading) return
    this.#isReading = true
    this.#socket.resume()
  }

  // Heads.

  #takeHead(bytes: Buffer, start: number, end: number): number {
    const reader = this.#reader
    const isFirstRead = reader.headBytes === 0
    const head = reader.readHead(bytes, start, end)
    const { at } = reader
    if (head === null) {
      if (isFirstRead) this.#host.wheel.arm(this.#alarm, this.#host.timeouts.headMs)
    } else if (isRefusal(head)) this.#refuse(codeOf(head.status), head.reason, head.status)
    else this.#open(head)
    return at
  }

  #open(head: RequestHead): void {
    const { wheel, timeouts } = this.#host
    if (this.#hasPeerEnded) wheel.arm(this.#alarm, timeouts.halfCloseMs)
    else wheel.disarm(this.#alarm)
    if (head.length !== null) this.#reader.giveBack()
    this.#phase = 'exchange'
    this.#isFresh = false
    this.#isKeepAlive = head.isKeepAlive
    this.#isHttp11 = head.isHttp11
    this.isHeadRequest = head.method === 'HEAD'
    this.#expectsContinue = head.expectsContinue
    this.#droppedBytes = 0
    if (head.isUpgrade) return this.#openUpgrade(head)
    const body = head.length === 0 ? null : new RequestBody(this, head.length)
    const reply = new ServerReply(this, this.#socket, head.isHttp11)
    this.#body = body
    this.#reply = reply
    const exchange = this.#exchangeOf(head, reply, body, null)
    if (body !== null) body.exchange = exchange
    this.#host.handle(exchange)
  }

  #openUpgrade(head: RequestHead): void {
    const socket = new UpgradedSocket(this.#socket)
    this.#phase = 'upgraded'
    this.#upgraded = socket
    this.#reader.giveBack()
    this.#host.handle(
      this.#exchangeOf(head, new SocketReply(socket, this.standingFields), null, {
        socket,
        head: Buffer.alloc(0),
      }),
    )
  }

  #exchangeOf(
    head: RequestHead,
    reply: Exchange['reply'],
    body: RequestBody | null,
    upgrade: UpgradeSocket | null,
  ): Exchange {
    const { method, target, rawHeaders } = head
    return makeExchange(method, target, rawHeaders, this.client, body, reply, upgrade)
  }

  #nextRequest(): void {
    this.#reader.giveBack()
    this.#body = null
    this.#phase = 'idle'
    const { wheel, timeouts } = this.#host
    const socket = this.#socket
    // Else a client that pipelines and never reads fills our memory with answers.
    this.#isClogged = socket.writableLength >= socket.writableHighWaterMark
    wheel.arm(this.#alarm, this.#isClogged ? timeouts.writeStallMs : timeouts.keepAliveMs)
    if (this.#isClogged) this.#pauseReading()
    else this.#pump()
  }

  // Bodies.

  #takeBody(bytes: Buffer, start: number, end: number): number {
    const body = this.#body as RequestBody
    const { wheel, timeouts, limits } = this.#host
    const at = body.take(bytes, start, end, this.#reader)
    if (at < 0) {
      this.#isKeepAlive = false
      const isAnswered = body.isDropped
      body.fail(new Fault('BAD_REQUEST', 'malformed chunk'))
      if (isAnswered) this.reset()
      return end
    }
    // The consumer may have answered, cut or paused meanwhile.
    if (this.#phase !== 'exchange' || this.#body !== body) return at
    if (body.isEnded) {
      if (this.#reply?.isStalled !== true) wheel.disarm(this.#alarm)
      this.#reader.giveBack()
      body.complete()
      if (this.#phase === 'exchange' && this.#body === body && this.#reply === null)
        this.#nextRequest()
    } else if (body.isDropped) {
      this.#droppedBytes += at - start
      if (this.#droppedBytes > limits.dropBytesMax) this.#linger()
    } else if (body.isFlowing) {
      const { bodyBytesPerSMin } = limits
      const { bodyRateWindowMs } = timeouts
      if (!body.rate.keepsUp(at - start, performance.now(), bodyRateWindowMs, bodyBytesPerSMin)) {
        this.#failBody(body, 'the body comes too slowly')
      } else if (this.#reply?.isStalled !== true) {
        wheel.arm(this.#alarm, timeouts.bodyIdleMs)
      }
    }
    return at
  }

  // Ends.

  #onDrain(): void {
    const reply = this.#reply
    if (this.#isClogged) {
      this.#isClogged = false
      if (this.#phase !== 'idle') return
      this.#host.wheel.arm(this.#alarm, this.#host.timeouts.keepAliveMs)
      this.#pump()
      return
    }
    if (reply === null) return
    if (this.#hasPeerEnded) this.#host.wheel.arm(this.#alarm, this.#host.timeouts.halfCloseMs)
    else if (this.#wantsBody()) this.#host.wheel.arm(this.#alarm, this.#host.timeouts.bodyIdleMs)
    else this.#host.wheel.disarm(this.#alarm)
    reply.drained()
    if (!this.#isReading) this.#armProbe()
  }

  #onPeerEnd(): void {
    this.#hasPeerEnded = true
    const rest = this.#pending?.length ?? 0
    const body = this.#body
    const isBodyCut = body !== null && body.length !== null && body.left > rest
    if (rest === 0 || isBodyCut) this.#onInputOver()
    // What it sent before it closed is answered, as long as it takes the answers.
    else this.#host.wheel.arm(this.#alarm, this.#host.timeouts.halfCloseMs)
  }

  /** The client has closed its side, and everything that it sent is worked off. */
  #onInputOver(): void {
    const { wheel, timeouts } = this.#host
    const isBodyCut = this.#body?.isComplete === false
    if (this.#phase === 'closed') return
    if (this.#phase === 'upgraded') {
      this.#upgraded?.push(null)
      // A replica that neither speaks nor closes would keep the dead splice open for ever.
      wheel.arm(this.#alarm, timeouts.halfCloseMs)
    } else if (this.#phase === 'linger' && !this.#socket.writableFinished) {
      // The rest of the answer is still on its way out; #onFinish goes on.
    } else if (this.#phase === 'exchange' && !isBodyCut) {
      this.#isKeepAlive = false
      wheel.arm(this.#alarm, timeouts.halfCloseMs)
    } else if (this.#phase === 'idle' && this.#socket.writableLength > 0) {
      this.#linger()
    } else {
      this.#socket.destroy()
      this.#close()
    }
  }

  #onAlarm(): void {
    const body = this.#body
    if (this.#phase === 'idle' && this.#reader.headBytes > 0) {
      this.#refuse('REQUEST_TIMEOUT', 'head too slow')
    } else if (this.#phase === 'exchange' && this.#reply?.isStalled === true) {
      this.reset()
    } else if (this.#phase === 'exchange' && this.#wantsBody() && body?.isDropped === false) {
      this.#failBody(body, 'the body stalled')
    } else if (this.#phase === 'exchange' && this.#reply !== null && !this.#hasPeerEnded) {
      this.#probe()
    } else if (this.#phase === 'idle' && !this.#isClogged) {
      this.#linger()
    } else {
      this.reset()
    }
  }

  /** A client that closed in order is noticed when all that it sent before has been read, so a little more is. */
  #probe(): void {
    probeSocket(this.#socket)
    if ((this.#pending?.length ?? 0) < KEPT_BYTES_MAX) this.#readOn()
    else this.#armProbe()
  }

  #failBody(body: RequestBody, reason: string): void {
    this.#isKeepAlive = false
    body.fail(new Fault('REQUEST_TIMEOUT', reason))
  }

  /** Answers what never becomes an exchange, and ends the connection. */
  #refuse(code: ErrorCode, reason: string, status?: number): void {
    const fault = new Fault(code, reason)
    this.#host.onRefused(fault, this.client)
    const body = faultBody(fault, '')
    const head = renderReplyHead(
      status ?? fault.status,
      faultFields(fault, status),
      Buffer.byteLength(body),
      'close',
      this.#host.date(),
      this.standingFields,
    )
    this.#socket.write(head + body, 'latin1')
    this.#linger()
  }

  /**
   * Closes our side and drops what the client still sends: closed at once with bytes unread, the
   * kernel would send a reset that overtakes the answer (RFC 9112 section 9.6).
   */
  #linger(): void {
    if (this.#phase === 'closed' || this.#phase === 'linger') return
    this.#phase = 'linger'
    this.#reader.close()
    this.#pending = null
    if (this.#body !== null) this.#body.isDropped = true
    this.#droppedBytes = 0
    this.#socket.end()
    this.#host.wheel.arm(this.#alarm, this.#host.timeouts.writeStallMs)
    if (this.#hasPeerEnded) return
    this.#isReading = true
    this.#socket.resume()
  }

  /** Our side is closed, all of it handed to the kernel: now the client has `lingerMs` to close its own. */
  #onFinish(): void {
    if (this.#phase !== 'linger') return
    if (this.#hasPeerEnded) this.#socket.destroy()
    else this.#host.wheel.arm(this.#alarm, this.#host.timeouts.lingerMs)
  }

  #close(): void {
    if (this.#phase === 'closed') return
    this.#phase = 'closed'
    this.#host.wheel.disarm(this.#alarm)
    this.#reader.close()
    this.#pending = null
    this.#host.onClosed(this)
    this.#upgraded?.destroy()
    this.#reply?.gone()
    this.#body?.fail(new Error('the client left'))
  }
}

function codeOf(status: number): ErrorCode {
  return status === 431 ? 'HEADERS_TOO_LARGE' : 'BAD_REQUEST'
}

function goOn(connection: ServerConnection): void {
  connection.workOffPending()
}
