import type { Route } from '../route.ts'
import type {
  UpstreamCall,
  UpstreamClient,
  UpstreamFault,
  UpstreamRequest,
  UpstreamSink,
} from '../upstream/client.ts'

/** A refusal's body is read to keep its connection; a longer one is cut. */
const REFUSAL_BYTES_MAX = 64 * 1024

/** True where the gateway's own words take the place of the app's, which would differ from those for an unknown tenant. */
export function replacesRefusals({ credential, refusals }: Route): boolean {
  return credential === 'login' && refusals === 'gateway'
}

/**
 * Sends a login. An answer that refuses it is read and dropped, and `onRefused` hears its status once it
 * is over, at the time at which it would have reached the client; any other goes to `sink`.
 */
export function sendLogin(
  client: UpstreamClient,
  origin: string,
  request: UpstreamRequest,
  sink: UpstreamSink,
  onRefused: (status: number) => void,
): UpstreamCall {
  const filter = new RefusalFilter(sink, onRefused)
  filter.call = client.send(origin, request, filter)
  return filter.call
}

/** Not 408 and 429: they are about the request's speed and not about its truth. */
function isRefusal(status: number): boolean {
  return status >= 400 && status < 500 && status !== 408 && status !== 429
}

class RefusalFilter implements UpstreamSink {
  /** Set before anything of the answer can come. */
  call: UpstreamCall | null = null
  readonly #sink: UpstreamSink
  readonly #onRefused: (status: number) => void
  /** null: not a refusal, as far as is known. */
  #status: number | null = null
  #bytes = 0
  #isTold = false

  constructor(sink: UpstreamSink, onRefused: (status: number) => void) {
    this.#sink = sink
    this.#onRefused = onRefused
  }

  onHead(status: number, headers: string[], length: number | null, isBodyless: boolean): void {
    if (isRefusal(status)) this.#status = status
    else this.#sink.onHead(status, headers, length, isBodyless)
  }

  onBytes(chunk: Buffer): void {
    if (this.#status === null) return this.#sink.onBytes(chunk)
    this.#bytes += chunk.length
    if (this.#bytes <= REFUSAL_BYTES_MAX) return
    this.call?.abort()
    this.#tell(this.#status)
  }

  onEnd(): void {
    if (this.#status === null) this.#sink.onEnd()
    else this.#tell(this.#status)
  }

  onFault(fault: UpstreamFault): void {
    if (this.#status === null) this.#sink.onFault(fault)
    // The verdict was there before the connection broke.
    else this.#tell(this.#status)
  }

  #tell(status: number): void {
    if (this.#isTold) return
    this.#isTold = true
    this.#onRefused(status)
  }
}
