/** The admin API as the console asks it: with the session's cookie, and the header that no other page can send. */

export interface Answer<T> {
  readonly result: T
  readonly message: string
  readonly status: number
  /** Of a tenant: to be sent as If-Match with a change. */
  readonly etag: string | null
}

export interface CallOptions {
  readonly method?: 'GET' | 'POST' | 'PATCH' | 'DELETE'
  readonly body?: unknown
  readonly ifMatch?: string | null
  /** If-None-Match: refused where there is one already. */
  readonly isNew?: boolean
  readonly idempotencyKey?: string
  /** Of a stream: what was seen of it last; empty: nothing. */
  readonly lastEventId?: string
  readonly signal?: AbortSignal | undefined
  /** The page asks by itself: it keeps no session alive. */
  readonly isPoll?: boolean
  /** How long it may take, where that is longer than usual. */
  readonly answerMs?: number
}

/** A refusal in the API's words; `status` 0: there was no answer. */
export class ApiError extends Error {
  readonly status: number
  readonly code: string
  /** What is wrong with each field, by its name. */
  readonly fields: Readonly<Record<string, string>>
  readonly requestId: string | null
  readonly retryAfterS: number | null

  constructor(
    message: string,
    status: number,
    code: string,
    more: {
      fields?: Readonly<Record<string, string>>
      requestId?: string | null
      retryAfterS?: number | null
    } = {},
  ) {
    super(message)
    this.status = status
    this.code = code
    this.fields = more.fields ?? {}
    this.requestId = more.requestId ?? null
    this.retryAfterS = more.retryAfterS ?? null
  }
}

const BASE = '/api/admin'
/** Signing in, and out: what it answers is whoever asks' own matter. */
const SESSION = '/session'
const ANSWER_MS = 30_000

let onSignedOut: () => void = () => {}
/** Where a session has ended: resolves with the next one. */
let ended: PromiseWithResolvers<void> | null = null
let sessions = 0

/** Called when an answer says that there is no session (any more). */
export function whenSignedOut(listener: () => void): void {
  onSignedOut = listener
}

/** Lets go on what has waited for a session. */
export function sessionBegan(): void {
  sessions += 1
  ended?.resolve()
  ended = null
}

/** @param path below /api/admin @throws ApiError, or AbortError where `signal` says so */
export async function call<T>(path: string, options: CallOptions = {}): Promise<Answer<T>> {
  const response = await request(path, options, options.answerMs ?? ANSWER_MS)
  const text = await response.text()
  const body = parse(text)
  if (!response.ok) throw refusal(response, body)
  return {
    result: body.result as T,
    message: String(body.message ?? ''),
    status: response.status,
    etag: response.headers.get('etag'),
  }
}

/** The answer itself, for streams of events and files. @throws ApiError */
export async function stream(path: string, options: CallOptions = {}): Promise<Response> {
  const response = await request(path, options, null)
  if (!response.ok) throw refusal(response, parse(await response.text()))
  return response
}

/**
 * What only reads waits where the session has ended, and is asked again with the next one: the page goes on by itself,
 * and asks nothing meanwhile, which would count against whoever signs in. What changes something is refused: it is for
 * the operator to do it once more.
 */
async function request(
  path: string,
  options: CallOptions,
  answerMs: number | null,
): Promise<Response> {
  const waits = (options.method ?? 'GET') === 'GET' && path !== SESSION
  for (;;) {
    if (waits && ended !== null) await orAborted(ended.promise, options.signal)
    const askedBy = sessions
    const response = await requestOnce(path, options, answerMs)
    if (response.status !== 401 || path === SESSION) return response
    // A late answer to the session before says nothing of this one.
    if (askedBy === sessions) {
      ended ??= Promise.withResolvers<void>()
      onSignedOut()
    }
    if (!waits) return response
    await response.body?.cancel()
  }
}

/** @throws what `signal` was aborted with */
async function orAborted(promise: Promise<void>, signal: AbortSignal | undefined): Promise<void> {
  if (signal === undefined) return promise
  signal.throwIfAborted()
  const aborted = Promise.withResolvers<void>()
  const stop = () => aborted.reject(signal.reason)
  signal.addEventListener('abort', stop)
  try {
    await Promise.race([promise, aborted.promise])
  } finally {
    signal.removeEventListener('abort', stop)
  }
}

async function requestOnce(
  path: string,
  {
    method = 'GET',
    body,
    ifMatch,
    isNew = false,
    idempotencyKey,
    lastEventId = '',
    signal,
    isPoll = false,
  }: CallOptions,
  answerMs: number | null,
): Promise<Response> {
  const signals = [
    ...(signal === undefined ? [] : [signal]),
    ...(answerMs === null ? [] : [AbortSignal.timeout(answerMs)]),
  ]
  try {
    return await fetch(`${BASE}${path}`, {
      method,
      credentials: 'same-origin',
      cache: 'no-store',
      redirect: 'error',
      signal: AbortSignal.any(signals),
      headers: {
        'x-doorman-console': isPoll ? 'poll' : '1',
        ...(body !== undefined && { 'content-type': 'application/json' }),
        ...(ifMatch != null && { 'if-match': ifMatch }),
        ...(isNew && { 'if-none-match': '*' }),
        ...(idempotencyKey !== undefined && { 'idempotency-key': idempotencyKey }),
        ...(lastEventId !== '' && { 'last-event-id': lastEventId }),
      },
      ...(body !== undefined && { body: JSON.stringify(body) }),
    })
  } catch (error) {
    if (signal?.aborted) throw error
    throw new ApiError('The gateway does not answer.', 0, 'NO_ANSWER')
  }
}

interface Envelope {
  readonly result?: unknown
  readonly message?: unknown
  readonly code?: unknown
  readonly request_id?: unknown
  readonly fields?: unknown
}

function parse(text: string): Envelope {
  try {
    return Object(JSON.parse(text)) as Envelope
  } catch {
    return {}
  }
}

function refusal(response: Response, body: Envelope): ApiError {
  const message = String(body.message ?? `The gateway answered ${response.status}.`)
  const code = String(body.code ?? 'UNKNOWN')
  const retryAfter = Number(response.headers.get('retry-after'))
  return new ApiError(message, response.status, code, {
    fields: textsOf(body.fields),
    requestId: typeof body.request_id === 'string' ? body.request_id : null,
    retryAfterS: Number.isFinite(retryAfter) && retryAfter > 0 ? retryAfter : null,
  })
}

function textsOf(given: unknown): Record<string, string> {
  const entries = Object.entries(Object(given) as Record<string, unknown>)
  return Object.fromEntries(entries.map(([name, text]) => [name, String(text)]))
}

/** A query without what is empty. */
export function queryString(values: Readonly<Record<string, string | number | null>>): string {
  const given = Object.entries(values).filter(([, value]) => value !== null && value !== '')
  if (given.length === 0) return ''
  return `?${new URLSearchParams(given.map(([name, value]) => [name, String(value)]))}`
}
