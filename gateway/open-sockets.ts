import type { TenantId, TenantIssuer } from '../registry/tenant.ts'
import type { Exchange } from './exchange.ts'

/** What is known of the token that a socket was opened with. */
export interface SocketToken {
  /** See `tokenIdOf`; null where the route asks for no token. */
  readonly tokenId: string | null
  /** `iat` in seconds since the epoch, 0 where it has none. */
  readonly issuedAtS: number
  /** `exp` in seconds since the epoch; null without a token. */
  readonly expiresAtS: number | null
  /** The tenant's own identity provider, where the token is of it. */
  readonly issuer: TenantIssuer | null
}

interface OpenSocket {
  /** When it is cut, in milliseconds since the epoch; Infinity: not by the clock. */
  readonly expiresAtMs: number
  readonly issuedAtMs: number
  readonly token: SocketToken
  readonly cut: () => void
  readonly goAway: (() => void) | null
  readonly isWebSocket: boolean
}

/** What is open of one tenant, by kind. */
export interface SocketCounts {
  readonly webSockets: number
  readonly eventStreams: number
  readonly longAnswers: number
}

export function socketTokenOf(exchange: Exchange): SocketToken {
  const { tokenId, tokenIssuedAtS, principal, tokenIssuer: issuer } = exchange
  return { tokenId, issuedAtS: tokenIssuedAtS ?? 0, expiresAtS: principal?.exp ?? null, issuer }
}

/** How often expiry is looked at: a socket outlives its token by no more than this. */
const SWEEP_MS = 500

/**
 * What stays open after it was admitted, by tenant: the sockets of handshakes and splices, event
 * streams, and long answers. Suspension, revocation and token expiry so reach them (fault matrix).
 */
export class OpenSockets {
  readonly #byTenant = new Map<TenantId, Set<OpenSocket>>()
  readonly #timer: NodeJS.Timeout
  #count = 0

  constructor() {
    this.#timer = setInterval(() => this.#sweep(Date.now()), SWEEP_MS)
    this.#timer.unref()
  }

  /** Sockets and event streams, which last as long as their client likes. */
  get count(): number {
    return this.#count
  }

  tenants(): readonly TenantId[] {
    return [...this.#byTenant.keys()]
  }

  has(tenant: TenantId): boolean {
    return this.#byTenant.has(tenant)
  }

  countOf(tenant: TenantId): number {
    return this.#byTenant.get(tenant)?.size ?? 0
  }

  /** For an operator. */
  countsOf(tenant: TenantId): SocketCounts {
    let webSockets = 0
    let longAnswers = 0
    const sockets = this.#byTenant.get(tenant) ?? new Set()
    for (const { isWebSocket, goAway } of sockets) {
      if (isWebSocket) webSockets++
      else if (goAway === null) longAnswers++
    }
    return { webSockets, longAnswers, eventStreams: sockets.size - webSockets - longAnswers }
  }

  /**
   * @param goAway ends it properly because this process leaves, and may be called more than once; null: an
   *   answer, which ends by itself, is waited for, and may outlast its token's expiry
   * @returns to be called when the socket closed
   */
  add(
    tenant: TenantId,
    token: SocketToken,
    cut: () => void,
    goAway: (() => void) | null,
    isWebSocket = false,
  ): () => void {
    const { expiresAtS, issuedAtS } = token
    const expiresAtMs = expiresAtS === null || goAway === null ? Infinity : expiresAtS * 1000
    const socket = { expiresAtMs, issuedAtMs: issuedAtS * 1000, token, cut, goAway, isWebSocket }
    const sockets = this.#byTenant.get(tenant) ?? new Set()
    this.#byTenant.set(tenant, sockets.add(socket))
    if (goAway !== null) this.#count++
    return () => {
      if (!sockets.delete(socket)) return
      if (goAway !== null) this.#count--
      if (sockets.size === 0 && this.#byTenant.get(tenant) === sockets) {
        this.#byTenant.delete(tenant)
      }
    }
  }

  /** @param issuedBeforeMs only those whose token is older; absent: all */
  cutTenant(tenant: TenantId, issuedBeforeMs = Infinity): void {
    for (const socket of [...(this.#byTenant.get(tenant) ?? [])]) {
      if (socket.issuedAtMs < issuedBeforeMs) socket.cut()
    }
  }

  /** Cuts sockets and event streams, whose end nobody would wait for; answers go on. */
  cutLasting(tenant: TenantId): void {
    for (const { cut, goAway } of [...(this.#byTenant.get(tenant) ?? [])]) {
      if (goAway !== null) cut()
    }
  }

  /** Cuts those whose token `isRefused`. */
  cutTokens(tenant: TenantId, isRefused: (token: SocketToken) => boolean): void {
    for (const { token, cut } of [...(this.#byTenant.get(tenant) ?? [])]) {
      if (isRefused(token)) cut()
    }
  }

  /** Asks all that would last to end; what comes later has to be asked again. */
  goAway(): void {
    for (const sockets of [...this.#byTenant.values()]) {
      for (const { goAway } of [...sockets]) goAway?.()
    }
  }

  /** Cuts all and stops looking. */
  close(): void {
    clearInterval(this.#timer)
    for (const tenant of this.tenants()) this.cutTenant(tenant)
  }

  #sweep(nowMs: number): void {
    for (const sockets of this.#byTenant.values()) {
      for (const socket of [...sockets]) if (socket.expiresAtMs <= nowMs) socket.cut()
    }
  }
}
