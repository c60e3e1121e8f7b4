import { setTimeout as delay } from 'node:timers/promises'
import { Agent, type Dispatcher, request } from 'undici'
import type { Log } from '../log.ts'
import { encodeSpans } from './otlp.ts'
import type { Attributes, Span } from './span.ts'

export interface ExporterOptions {
  /** Where spans go by OTLP/HTTP, the path included. */
  readonly url: string
  /** Beside our own: mostly a key of the collector's. */
  readonly headers: Readonly<Record<string, string>>
  /** Bound of one attempt. */
  readonly timeoutMs: number
  /** What sends: service.name and so on. */
  readonly resource: Attributes
  readonly log: Log
  /** Standard: 5,000. */
  readonly delayMs?: number
  /** First wait before a batch is sent again; doubles. Standard: 1,000. */
  readonly backoffMs?: number
}

export interface ExporterFigures {
  exported: number
  /** The queue was full: the collector is slow, or there is too much. */
  dropped: number
  /** Refused, or not taken after all attempts. */
  failed: number
}

/** Spans that wait; some 2 MB. */
const QUEUE_MAX = 2048
/** Encoding one batch holds the event loop up for a millisecond or two. */
const BATCH_MAX = 512
const ATTEMPTS_MAX = 4
const BACKOFF_MS_MAX = 30_000
/** Of an answer; it is read for `rejectedSpans` alone. */
const ANSWER_BYTES_MAX = 64 * 1024
/** Those that OTLP says to send again. */
const RETRYABLE: readonly number[] = [429, 502, 503, 504]

/**
 * Sends spans to a collector in the background, one batch at a time. Whatever the collector does, a request never waits
 * for it: what finds the queue full is dropped and counted.
 */
export class SpanExporter {
  readonly #options: ExporterOptions
  readonly #agent: Agent
  readonly #stop = new AbortController()
  readonly figures: ExporterFigures = { exported: 0, dropped: 0, failed: 0 }
  #queue: Span[] = []
  #timer: NodeJS.Timeout | null = null
  #sending: Promise<void> | null = null
  #isFailing = false
  #isClosing = false

  constructor(options: ExporterOptions) {
    this.#options = options
    this.#agent = new Agent({
      connections: 1,
      connect: { timeout: options.timeoutMs },
      headersTimeout: options.timeoutMs,
      bodyTimeout: options.timeoutMs,
    })
  }

  add(span: Span): void {
    if (this.#queue.length >= QUEUE_MAX || this.#isClosing) {
      this.figures.dropped++
      return
    }
    this.#queue.push(span)
    if (this.#queue.length >= BATCH_MAX) this.#send()
    else this.#timer ??= setTimeout(() => this.#send(), this.#options.delayMs ?? 5000).unref()
  }

  /** Sends what waits, for at most `deadlineMs`; what is left then is lost. */
  async close(deadlineMs: number): Promise<void> {
    this.#isClosing = true
    const late = setTimeout(() => this.#stop.abort(), deadlineMs)
    this.#send()
    while (this.#sending !== null) await this.#sending
    clearTimeout(late)
    if (this.#timer !== null) clearTimeout(this.#timer)
    await this.#agent.destroy()
  }

  #send(): void {
    if (this.#timer !== null) clearTimeout(this.#timer)
    this.#timer = null
    this.#sending ??= this.#sendAll().finally(() => {
      this.#sending = null
      // What came while the last batch was under way has its own delay.
      const { length } = this.#queue
      if (length > 0 && !this.#isClosing) {
        this.#timer ??= setTimeout(() => this.#send(), this.#options.delayMs ?? 5000).unref()
      }
    })
  }

  /** Never rejects. */
  async #sendAll(): Promise<void> {
    do {
      const batch = this.#queue.splice(0, BATCH_MAX)
      if (batch.length > 0) await this.#sendBatch(batch)
    } while (this.#queue.length >= (this.#isClosing ? 1 : BATCH_MAX))
  }

  async #sendBatch(batch: readonly Span[]): Promise<void> {
    const { resource, log, backoffMs = 1000 } = this.#options
    const body = encodeSpans(resource, batch, Date.now(), performance.now())
    let reason = ''
    for (let attempt = 1; attempt <= ATTEMPTS_MAX && !this.#stop.signal.aborted; attempt++) {
      const outcome = await this.#post(body)
      if (typeof outcome === 'number') {
        const rejected = Math.min(outcome, batch.length)
        this.figures.exported += batch.length - rejected
        this.figures.failed += rejected
        if (this.#isFailing) log.info('spans are exported again')
        this.#isFailing = false
        return
      }
      reason = outcome.reason
      if (outcome.retryAfterMs === null || attempt === ATTEMPTS_MAX) break
      const waitMs = Math.max(outcome.retryAfterMs, backoffMs * 2 ** (attempt - 1))
      // Up to half more, so that a fleet does not come back in step.
      const jitteredMs = Math.min(BACKOFF_MS_MAX, waitMs) * (1 + Math.random() / 2)
      await delay(jitteredMs, null, { signal: this.#stop.signal, ref: false }).catch(() => {})
    }
    this.figures.failed += batch.length
    // Once: a collector that is away stays so for a while.
    if (!this.#isFailing) log.warn({ reason: reason || 'no time left' }, 'spans not exported')
    this.#isFailing = true
  }

  /** How many spans were rejected; or why none was taken, and after how long to try again (null: never). */
  async #post(body: string): Promise<number | { reason: string; retryAfterMs: number | null }> {
    const { url, headers, timeoutMs } = this.#options
    const deadline = new AbortController()
    const end = () => deadline.abort()
    const timer = setTimeout(end, timeoutMs)
    this.#stop.signal.addEventListener('abort', end)
    const { signal } = deadline
    try {
      const answer = await request(url, {
        method: 'POST',
        headers: { ...headers, 'content-type': 'application/json' },
        body,
        dispatcher: this.#agent,
        signal,
      })
      const { statusCode } = answer
      if (statusCode >= 200 && statusCode < 300) return await rejectedSpans(answer.body)
      await answer.body.dump({ limit: ANSWER_BYTES_MAX, signal })
      const isRetryable = RETRYABLE.includes(statusCode)
      const retryAfterS = Number(answer.headers['retry-after'] ?? 0)
      const retryAfterMs = retryAfterS > 0 ? retryAfterS * 1000 : 0
      return { reason: `status ${statusCode}`, retryAfterMs: isRetryable ? retryAfterMs : null }
    } catch (error) {
      // Its code alone: a message may quote the URL, which may hold a key.
      const { code, name } = error as NodeJS.ErrnoException
      return { reason: signal.aborted ? 'no answer in time' : (code ?? name), retryAfterMs: 0 }
    } finally {
      clearTimeout(timer)
      this.#stop.signal.removeEventListener('abort', end)
    }
  }
}

type Body = Dispatcher.ResponseData['body']

/**
 * Of a partial success (OTLP/HTTP, "Partial Success"). An answer that cannot be read, or not to its end, counts as none:
 * the spans were taken, and sent again they would be there twice.
 */
async function rejectedSpans(body: Body): Promise<number> {
  const chunks: Buffer[] = []
  let bytes = 0
  try {
    for await (const chunk of body as AsyncIterable<Buffer>) {
      bytes += chunk.length
      if (bytes > ANSWER_BYTES_MAX) return 0
      chunks.push(chunk)
    }
    const answer = JSON.parse(Buffer.concat(chunks).toString()) as {
      partialSuccess?: { rejectedSpans?: unknown }
    } | null
    const rejected = Number(answer?.partialSuccess?.rejectedSpans ?? 0)
    return rejected > 0 ? rejected : 0
  } catch {
    return 0
  }
}
