import { isOwnName } from '../headers.ts'

/** Ends at this hop (RFC 9110 section 7.6.1), or is the engine's to write. */
const DROPPED = new Set([
  'connection',
  'keep-alive',
  'proxy-connection',
  'proxy-authenticate',
  'te',
  'trailer',
  'transfer-encoding',
  'upgrade',
  'content-length',
  'date',
  'x-request-id',
])

/**
 * The fields of an upstream's answer that go to the client: without hop-by-hop fields, what
 * `Connection` lists, and our own names (an app must not leak its context by echoing it).
 *
 * @param raw name, value, …
 * @param isCorsOn drops the app's own CORS fields, for the gateway writes them
 */
export function cleanResponseHeaders(raw: readonly string[], isCorsOn: boolean): string[] {
  const kept: string[] = []
  let listed: Set<string> | null = null
  for (let i = 0; i < raw.length; i += 2) {
    if ((raw[i] as string).toLowerCase() !== 'connection') continue
    const options = (raw[i + 1] as string).toLowerCase().split(',')
    listed = new Set([...(listed ?? []), ...options.map(option => option.trim())])
  }
  for (let i = 0; i < raw.length; i += 2) {
    const name = raw[i] as string
    const lower = name.toLowerCase()
    if (DROPPED.has(lower) || listed?.has(lower) || isOwnName(lower)) continue
    if (isCorsOn && lower.startsWith('access-control-')) continue
    kept.push(name, raw[i + 1] as string)
  }
  return kept
}

/** Content-Length of an answer in bytes, or null. */
export function contentLength(raw: readonly string[]): number | null {
  for (let i = 0; i < raw.length; i += 2) {
    if ((raw[i] as string).toLowerCase() === 'content-length') return Number(raw[i + 1])
  }
  return null
}

/** Answers without a body whatever their fields say (RFC 9112 section 6.3). */
export function isBodylessAnswer(method: string, status: number): boolean {
  return method === 'HEAD' || status === 204 || status === 304
}
