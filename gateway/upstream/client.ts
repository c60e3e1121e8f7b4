import type { BodySource } from '../exchange.ts'

/**
 * HTTP to one app replica, whatever engine speaks it. `send` starts one attempt; everything that
 * comes of it reaches the sink, and exactly one of `onEnd` and `onFault` ends it.
 */
export interface UpstreamClient {
  /** @param origin scheme, host and port of the replica, such as `http://10.0.0.7:3000` */
  send(origin: string, request: UpstreamRequest, sink: UpstreamSink): UpstreamCall
  /** Open connections to a replica. */
  connectionCount(origin: string): number
  /** Calls that wait for a connection to a replica. */
  queueLength(origin: string): number
  /** Closes the idle connections to a replica that is leaving, before it does so under a request. */
  closeIdle(origin: string): void
  /** Closes idle connections at once and the others when their call ends. */
  close(): Promise<void>
}

export interface UpstreamRequest {
  readonly method: string
  readonly target: string
  /** Name, value, …: cleaned, ours included, without framing fields. */
  readonly headers: readonly string[]
  /** A Buffer is sent with its length; a source streams with back-pressure. */
  readonly body: Buffer | BodySource | null
}

export interface UpstreamSink {
  /**
   * The final answer's head; 1xx answers are consumed by the client.
   *
   * @param headers name, value, … without hop-by-hop and framing fields
   * @param length from Content-Length; null where the body is chunked or runs until close
   * @param isBodyless the answer has no body whatever `length` says (HEAD, 204, 304)
   */
  onHead(status: number, headers: string[], length: number | null, isBodyless: boolean): void
  /** `chunk` is good until the end of the tick: a receiver that keeps it longer copies it. */
  onBytes(chunk: Buffer): void
  onEnd(): void
  onFault(fault: UpstreamFault): void
}

export interface UpstreamCall {
  /** `performance.now()` when it had its connection and the request head was written; 0: not yet. */
  readonly sentAt: number
  /** Stops and restarts the answer's bytes (back-pressure from the client). */
  pause(): void
  resume(): void
  /** The client left: cut the upstream connection, no further call of the sink. */
  abort(): void
}

export interface UpstreamFault {
  /**
   * `queue`: every connection to the replica was busy and too many waited already; `queue-timeout`: the
   * call has waited for one for too long, and another wait would only double that. `refused`: the
   * address may not be connected to (HARDENING B.13); `cause` says which.
   */
  readonly kind:
    | 'connect'
    | 'refused'
    | 'queue'
    | 'queue-timeout'
    | 'timeout'
    | 'reset'
    | 'protocol'
    | 'request-body'
  /**
   * True where the replica provably never got a byte of the request (the connection was refused, or
   * never made): only then is any method safe to send again (RFC 9110 section 9.2.2).
   */
  readonly isUnsent: boolean
  /** True where the connection had served a request before: a reset may be its idle time-out. */
  readonly isReused: boolean
  readonly reason: string
  /** What the body's source reported, for `request-body`; the Fault, for `refused`. */
  readonly cause?: Error
}
