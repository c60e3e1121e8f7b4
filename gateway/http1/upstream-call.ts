import type { BodySink, BodySource } from '../exchange.ts'
import type {
  UpstreamCall,
  UpstreamFault,
  UpstreamRequest,
  UpstreamSink,
} from '../upstream/client.ts'
import type { UpstreamConnection } from './upstream-connection.ts'
import type { RequestFraming } from './upstream-request-head.ts'

/** One attempt: what is sent, who hears of the answer, and where it stands. */
export class Http1Call implements UpstreamCall, BodySink {
  readonly request: UpstreamRequest
  readonly sink: UpstreamSink
  /** The rendered head. */
  readonly head: string
  readonly framing: RequestFraming
  /** Set while a connection serves the call. */
  connection: UpstreamConnection | null = null
  /** Takes the call out of the queue; set while it waits there. */
  leaveQueue: (() => void) | null = null
  isPaused = false
  isOver = false
  /** The request body's source was started and has not ended. */
  isUploading = false
  sentAt = 0
  /** Bytes of the request body that were handed to the socket. */
  sentBytes = 0
  isUploaded: boolean

  constructor(request: UpstreamRequest, sink: UpstreamSink, head: string, framing: RequestFraming) {
    this.request = request
    this.sink = sink
    this.head = head
    this.framing = framing
    this.isUploaded = request.body === null || Buffer.isBuffer(request.body)
  }

  pause(): void {
    if (this.isOver || this.isPaused) return
    this.isPaused = true
    this.connection?.pauseReading()
  }

  resume(): void {
    if (this.isOver || !this.isPaused) return
    this.isPaused = false
    this.connection?.resumeReading()
  }

  abort(): void {
    if (this.isOver) return
    this.isOver = true
    this.leaveQueue?.()
    this.connection?.cut()
  }

  /** Ends the call without an answer, or in the midst of one. */
  fail(fault: UpstreamFault): void {
    if (this.isOver) return
    this.isOver = true
    this.leaveQueue?.()
    this.sink.onFault(fault)
  }

  /** Whatever the client still sends is of no use to this attempt. */
  stopUpload(): void {
    if (!this.isUploading) return
    this.isUploading = false
    ;(this.request.body as BodySource).pause()
  }

  onBodyBytes(chunk: Buffer): void {
    if (!this.isOver && !this.isUploaded) this.connection?.upload(this, chunk)
  }

  onBodyEnd(): void {
    if (!this.isOver && !this.isUploaded) this.connection?.endUpload(this)
  }

  onBodyError(error: Error): void {
    if (!this.isOver && !this.isUploaded) this.connection?.failUpload(error.message, error)
  }
}
