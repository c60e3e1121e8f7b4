import type {
  UpstreamCall,
  UpstreamClient,
  UpstreamFault,
  UpstreamRequest,
  UpstreamSink,
} from './upstream/client.ts'

/**
 * Sends a request that ends the session of its token, such as a logout. Where the replica does not
 * refuse it, its answer is held until `revoke` is through, so that a client that was told of its
 * logout is signed out everywhere. So is one that leaves before it is told: a page that is closed, a
 * network that is lost. `revoke` never rejects, and sees to it that this takes no longer than a moment.
 */
export function sendRevoking(
  client: UpstreamClient,
  origin: string,
  request: UpstreamRequest,
  sink: UpstreamSink,
  revoke: () => Promise<void>,
): UpstreamCall {
  const held = new HeldAnswer(sink, revoke)
  held.call = client.send(origin, request, held)
  return held
}

/** A redirect or a 304 is no refusal either: the app took the logout. */
const REFUSED_STATUS_MIN = 400

class HeldAnswer implements UpstreamSink, UpstreamCall {
  /** Set before anything of the answer can come. */
  call: UpstreamCall | null = null
  readonly #sink: UpstreamSink
  readonly #revoke: () => Promise<void>
  /** What came while the answer is held: one read's worth, for the call is paused. null: not held. */
  #events: (() => void)[] | null = null
  #isPausedByClient = false
  #isAnswered = false
  #isOver = false

  constructor(sink: UpstreamSink, revoke: () => Promise<void>) {
    this.#sink = sink
    this.#revoke = revoke
  }

  onHead(status: number, headers: string[], length: number | null, isBodyless: boolean): void {
    this.#isAnswered = true
    if (status >= REFUSED_STATUS_MIN) return this.#sink.onHead(status, headers, length, isBodyless)
    this.#events = [() => this.#sink.onHead(status, headers, length, isBodyless)]
    this.call?.pause()
    void this.#revoke().then(() => this.#release())
  }

  onBytes(chunk: Buffer): void {
    if (this.#events === null) return this.#sink.onBytes(chunk)
    const copy = Buffer.from(chunk)
    this.#events.push(() => this.#sink.onBytes(copy))
  }

  onEnd(): void {
    this.#end(() => this.#sink.onEnd())
  }

  onFault(fault: UpstreamFault): void {
    this.#end(() => this.#sink.onFault(fault))
  }

  get sentAt(): number {
    return this.call?.sentAt ?? 0
  }

  pause(): void {
    this.#isPausedByClient = true
    this.call?.pause()
  }

  resume(): void {
    this.#isPausedByClient = false
    if (this.#events === null) this.call?.resume()
  }

  abort(): void {
    this.#isOver = true
    this.#events = null
    this.call?.abort()
    // It asked for the end of its session, and nobody is left to tell that the app refused.
    if (!this.#isAnswered) void this.#revoke()
  }

  #end(tell: () => void): void {
    if (this.#events === null) tell()
    else this.#events.push(tell)
  }

  #release(): void {
    const events = this.#events
    this.#events = null
    for (const event of events ?? []) if (!this.#isOver) event()
    if (!this.#isOver && !this.#isPausedByClient) this.call?.resume()
  }
}
