import type { Duplex } from 'node:stream'
import type { Principal } from '../registry/context.ts'
import type { Tenant, TenantIssuer, TenantRef } from '../registry/tenant.ts'
import type { Slot } from './admission/slot.ts'
import type { Head } from './headers.ts'
import type { LoginPass } from './login/login-limit.ts'
import type { TenantUsage } from './metering/tenant-usage.ts'
import type { Route } from './route.ts'

/**
 * One request and its answer, from the first byte in to the access log. Every phase reads what the
 * ones before it set; nothing else passes between phases. The HTTP engine that made it stands behind
 * `body` and `reply`, so that the pipeline never sees a socket, nor Node's req and res.
 */
export interface Exchange {
  // Set by the ingress (the HTTP engine).
  readonly method: string
  /** Request target as received; `target` is the one to trust. */
  readonly rawTarget: string
  /** Header fields as received: name, value, name, value, … */
  readonly rawHeaders: readonly string[]
  readonly client: Client
  /** null where the request has no body. Wrapped by admit where the tenant may send so much of it only. */
  body: BodySource | null
  readonly reply: Reply
  /** Set for a WebSocket handshake: once signed it is spliced instead of forwarded. */
  readonly upgrade: UpgradeSocket | null
  /** `performance.now()` at the end of the request head. */
  readonly startedAt: number

  // Set by admitHead.
  /** Cleaned header fields and those that Doorman itself reads. */
  head: Head
  requestId: string
  /** True where the client chose the request id, so that it may come twice. */
  isForeignRequestId: boolean
  /** Canonical target, exactly as it is forwarded. */
  target: string
  /** `target` without its query. */
  path: string

  // Set by beginTrace.
  /** Of the client's trace, or of one begun here; '' where the head was refused. */
  traceId: string
  /** Of this exchange within the trace. */
  spanId: string
  /** The client's; '' where the trace began here. */
  parentSpanId: string
  /** As they go to the app: `SAMPLED`, `RANDOM`. */
  traceFlags: number
  /** Somebody keeps the trace, so that its id is worth showing. */
  isTraceKept: boolean

  // Set by route.
  route: Route | null

  // Set by identify.
  /** By id from a token, by key from a login body. */
  tenantRef: TenantRef | null
  principal: Principal | null
  /** `principal` in the encoding of the request header. */
  principalText: string
  /** Claim `iat` of the token in seconds since the epoch; 0 where it has none, null without a token. */
  tokenIssuedAtS: number | null
  /** What the token can be revoked by (`tokenIdOf`); null without a token. */
  tokenId: string | null
  /** By whose keys the token was verified, where that is the tenant's own identity provider. */
  tokenIssuer: TenantIssuer | null
  /** What a login body names as its account, in canonical form (never logged); null: nothing. */
  account: string | null
  /** `performance.now()` when the tenant's name was known; of a login, when it was let pass. */
  identifiedAt: number
  /** The whole body, where the route needed it to find the tenant. */
  bufferedBody: Buffer | null

  // Set by the guard of login routes.
  /** Held until the exchange ends. */
  loginPass: LoginPass | null

  // Set by resolve.
  tenant: Tenant | null
  /** `performance.now()` when it was known; 0 where nothing had to be waited for. */
  resolvedAt: number

  // Set by sign.
  /** `performance.now()` when the exchange could go to the app. */
  signedAt: number

  // Set by admit, until the exchange ends.
  /** What is counted of the tenant, this exchange included; null: it is not counted. */
  slot: Slot | null
  /** Counted as a socket (WebSocket, event stream) and not as a request in flight. */
  isSocket: boolean
  /** Counted among those that are at replicas (gateway/admission/gate.ts). */
  isInside: boolean

  // Set by forward.
  /** Origin of the replica that got the request. */
  upstream: string | null
  attempts: number
  /** Of the last attempt within the trace; '' where no trace is kept. */
  upstreamSpanId: string
  /** `performance.now()` when the last attempt had its connection and its head was written; 0: never. */
  sentAt: number
  /** `performance.now()` when the upstream's answer head arrived. */
  upstreamHeadAt: number
  /** `performance.now()` when the client's answer head was made of it. */
  answeredAt: number
  /** Field x-usage of the app's answer, which the client does not get; null: none. */
  appUsage: string | null

  // Set by the meter.
  /** The tenant's record of the day in which the app's answer was counted; null: it was not. */
  metered: TenantUsage | null

  // Set by whoever answered, read by the meter and the access log.
  status: number
  /** Code of the error table, or null on success. */
  errorCode: string | null
  /** For the log only. */
  errorReason: string | null
  bytesIn: number
  bytesOut: number
}

export interface Client {
  /** Address of the TCP peer. */
  readonly address: string
  readonly isTls: boolean
}

/** The connection of a handshake, after its head. */
export interface UpgradeSocket {
  readonly socket: Duplex
  /** Bytes that came behind the head. */
  readonly head: Buffer
}

/**
 * A request body on its way in. Exactly one consumer; nothing flows before `start`, which is also
 * what answers an `Expect: 100-continue`.
 */
export interface BodySource {
  /** Declared length in bytes; null for a chunked body. */
  readonly length: number | null
  start(sink: BodySink): void
  pause(): void
  resume(): void
}

export interface BodySink {
  /** `chunk` is good until the end of the tick: a receiver that keeps it longer copies it. */
  onBodyBytes(chunk: Buffer): void
  onBodyEnd(): void
  /** The body will never be complete: the client left, dawdled, or broke the framing. */
  onBodyError(error: Error): void
}

/**
 * Where the answer goes. The engine owns the message framing: callers never pass Connection,
 * Keep-Alive, Transfer-Encoding, Content-Length or Date among `headers` (name, value, name, value, …).
 */
export interface Reply {
  readonly isHeadSent: boolean
  /** True once the last byte was handed to the socket, or the exchange was cut. */
  readonly isDone: boolean
  /** Hears of the client until the answer is complete. */
  listener: ReplyListener | null
  /** A complete answer, in one write. A request body not read yet is discarded or the connection closed. */
  send(status: number, headers: readonly string[], body: Buffer | string): void
  /**
   * The head of a streamed answer.
   *
   * @param length bytes that follow; null: not known (chunked, or until close for HTTP/1.0)
   * @param isBodyless no bytes follow whatever `length` says (HEAD, 204, 304)
   */
  writeHead(
    status: number,
    headers: readonly string[],
    length: number | null,
    isBodyless: boolean,
  ): void
  /** `chunk` is good until the end of the tick. False: the socket is full, wait for `onReplyDrain`. */
  write(chunk: Buffer): boolean
  end(): void
  /** Cuts the connection, so that the client sees an abort and never a clean end (RFC 9112 section 8). */
  abort(): void
}

/** Who writes a streamed answer. */
export interface ReplyListener {
  /** The client left before the answer was complete. At most once. */
  onReplyGone(): void
  /** `write` may go on after it returned false. */
  onReplyDrain(): void
}

/** A new exchange of an engine: one literal, so that all have one shape. `startedAt` is now. */
export function makeExchange(
  method: string,
  rawTarget: string,
  rawHeaders: readonly string[],
  client: Client,
  body: BodySource | null,
  reply: Reply,
  upgrade: UpgradeSocket | null,
): Exchange {
  return {
    method,
    rawTarget,
    rawHeaders,
    client,
    body,
    reply,
    upgrade,
    startedAt: performance.now(),
    head: null as unknown as Head,
    requestId: '',
    isForeignRequestId: false,
    target: '',
    path: '',
    traceId: '',
    spanId: '',
    parentSpanId: '',
    traceFlags: 0,
    isTraceKept: false,
    route: null,
    tenantRef: null,
    principal: null,
    principalText: '',
    tokenIssuedAtS: null,
    tokenId: null,
    account: null,
    tokenIssuer: null,
    identifiedAt: 0,
    bufferedBody: null,
    loginPass: null,
    tenant: null,
    resolvedAt: 0,
    signedAt: 0,
    slot: null,
    isSocket: false,
    isInside: false,
    upstream: null,
    attempts: 0,
    upstreamSpanId: '',
    sentAt: 0,
    upstreamHeadAt: 0,
    answeredAt: 0,
    appUsage: null,
    metered: null,
    status: 0,
    errorCode: null,
    errorReason: null,
    bytesIn: 0,
    bytesOut: 0,
  }
}
