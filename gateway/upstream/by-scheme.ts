import type { UpstreamCall, UpstreamClient, UpstreamRequest, UpstreamSink } from './client.ts'

/** Plain HTTP by our own engine; `https:` by undici, which verifies certificates. */
export class ClientByScheme implements UpstreamClient {
  readonly #plain: UpstreamClient
  readonly #secure: UpstreamClient

  constructor(plain: UpstreamClient, secure: UpstreamClient) {
    this.#plain = plain
    this.#secure = secure
  }

  send(origin: string, request: UpstreamRequest, sink: UpstreamSink): UpstreamCall {
    return this.#clientOf(origin).send(origin, request, sink)
  }

  connectionCount(origin: string): number {
    return this.#clientOf(origin).connectionCount(origin)
  }

  queueLength(origin: string): number {
    return this.#clientOf(origin).queueLength(origin)
  }

  closeIdle(origin: string): void {
    this.#clientOf(origin).closeIdle(origin)
  }

  async close(): Promise<void> {
    await Promise.all([this.#plain.close(), this.#secure.close()])
  }

  #clientOf(origin: string): UpstreamClient {
    return origin.startsWith('http:') ? this.#plain : this.#secure
  }
}
