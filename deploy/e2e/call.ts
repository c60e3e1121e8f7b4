import { channel } from 'node:diagnostics_channel'
import { type IncomingHttpHeaders, type OutgoingHttpHeaders, request } from 'node:http'

export interface CallOptions {
  readonly method?: string
  readonly token?: string
  readonly json?: unknown
  readonly body?: string | Buffer
  readonly headers?: OutgoingHttpHeaders
  readonly timeoutMs?: number
}

export interface Answer {
  readonly status: number
  readonly headers: IncomingHttpHeaders
  /** Name, value, … as they came. */
  readonly rawHeaders: readonly string[]
  readonly text: string
  /** The parsed body; null where it is not JSON. */
  readonly json: unknown
  /** Code of a failure. */
  readonly code: string | undefined
  readonly result: Readonly<Record<string, unknown>>
}

/** A request with its answer, told on the diagnostics channel `CALLS` to whoever watches for leaks. */
export interface Called {
  readonly method: string
  readonly path: string
  readonly options: CallOptions
  readonly answer: Answer
}

export const CALLS = 'doorman.e2e.call'

const TIMEOUT_MS = 15_000

/**
 * One request on a connection of its own: what a test sees is then never an effect of the test before.
 *
 * @throws Error where no whole answer came
 */
export function call(origin: string, path: string, options: CallOptions = {}): Promise<Answer> {
  const { token, json, timeoutMs = TIMEOUT_MS } = options
  const body = json === undefined ? options.body : JSON.stringify(json)
  return new Promise((resolve, reject) => {
    const req = request(`${origin}${path}`, {
      method: options.method ?? 'GET',
      agent: false,
      signal: AbortSignal.timeout(timeoutMs),
      headers: {
        ...(token !== undefined && { authorization: `Bearer ${token}` }),
        ...(json !== undefined && { 'content-type': 'application/json' }),
        ...(body !== undefined && { 'content-length': Buffer.byteLength(body) }),
        ...options.headers,
      },
    })
    req.on('error', reject)
    req.on('response', res => {
      const chunks: Buffer[] = []
      res.on('data', (chunk: Buffer) => chunks.push(chunk))
      res.on('error', reject)
      res.on('end', () => {
        const text = Buffer.concat(chunks).toString('utf8')
        const parsed = parse(text) as { code?: string; result?: Record<string, unknown> } | null
        const answer: Answer = {
          status: res.statusCode ?? 0,
          headers: res.headers,
          rawHeaders: res.rawHeaders,
          text,
          json: parsed,
          code: parsed?.code,
          result: parsed?.result ?? {},
        }
        const { method = 'GET' } = options
        channel(CALLS).publish({ method, path, options, answer } satisfies Called)
        resolve(answer)
      })
    })
    req.end(body)
  })
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return null
  }
}
