import { ApiError, type CallOptions, stream } from './api.ts'

/** One event of a stream of the API (WHATWG HTML, server-sent events). */
export interface StreamEvent {
  readonly name: string
  readonly data: string
  /** The last that was told: with it the stream is gone on with. */
  readonly id: string
}

/** Of one event; what is longer is none of ours. */
const EVENT_CHARS_MAX = 262_144
/** The API says something every ten seconds: a connection that is silent for longer is lost, though nobody said so. */
const SILENCE_MS_MAX = 35_000

/**
 * Reads a stream until it ends. Not by EventSource: that cannot send the header by which a session counts.
 *
 * @param lastId empty: from the beginning
 * @param options of what is asked, where it is not the clock that asks
 * @returns the last id
 * @throws ApiError, or AbortError where `signal` says so
 */
export async function readEvents(
  path: string,
  lastId: string,
  signal: AbortSignal,
  onEvent: (event: StreamEvent) => void,
  options: CallOptions = { isPoll: true },
): Promise<string> {
  const lost = new AbortController()
  let timer = setTimeout(() => lost.abort(), SILENCE_MS_MAX)
  let id = lastId
  try {
    const both = AbortSignal.any([signal, lost.signal])
    const { body, status } = await stream(path, {
      ...options,
      ...{ signal: both, lastEventId: lastId },
    })
    // 204: the end was told before.
    if (status === 204 || body === null) return lastId
    const reader = body.pipeThrough(new TextDecoderStream()).getReader()
    let rest = ''
    for (;;) {
      const { done, value } = await reader.read()
      if (done) return id
      clearTimeout(timer)
      timer = setTimeout(() => lost.abort(), SILENCE_MS_MAX)
      const parts = `${rest}${value}`.split('\n\n')
      rest = parts.pop() ?? ''
      if (rest.length > EVENT_CHARS_MAX) throw new ApiError('The stream is broken.', 0, 'UNKNOWN')
      for (const part of parts) {
        const event = parseEvent(part, id)
        if (event === null) continue
        id = event.id
        onEvent(event)
      }
    }
  } catch (error) {
    if (lost.signal.aborted) throw new ApiError('The gateway fell silent.', 0, 'NO_ANSWER')
    throw error
  } finally {
    clearTimeout(timer)
    // Lets go of a stream that was left half read.
    lost.abort()
  }
}

/** Null for a comment, and for what sets the pause only. */
function parseEvent(text: string, before: string): StreamEvent | null {
  const event = { name: 'message', id: before }
  const data: string[] = []
  for (const line of text.split('\n')) {
    const [, field, value = ''] = /^(id|event|data): ?(.*)$/.exec(line) ?? []
    if (field === 'id') event.id = value
    if (field === 'event') event.name = value
    if (field === 'data') data.push(value)
  }
  return data.length === 0 ? null : { ...event, data: data.join('\n') }
}
