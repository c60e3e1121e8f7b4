import { dropListed, isOwnName } from '../headers.ts'

/** Ends at this hop (RFC 9110 section 7.6.1), or is the engine's or the gateway's to write. */
const DROPPED = new Set([
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

/** `cors`: dropped where the gateway writes the CORS fields itself. `usage`: ends here, and is read. */
type Kind = 'keep' | 'drop' | 'cors' | 'connection' | 'usage'

/** Who reads what the app says of its own use. */
export interface UsageReader {
  /** The field x-usage; several are one list (RFC 9110 section 5.3). */
  appUsage: string | null
}

/** Apps spell few names: a look-up by the spelling saves folding and judging each again. */
const SPELLINGS_MAX = 4096
const SPELLING_CHARS_MAX = 64
const spellings = new Map<string, Kind>()

/**
 * The fields of an upstream's answer that go to the client: without hop-by-hop fields, what
 * `Connection` lists, and our own names (an app must not leak its context by echoing it).
 *
 * @param raw name, value, …
 * @param isCorsOn drops the app's own CORS fields, for the gateway writes them
 */
export function cleanResponseHeaders(
  raw: readonly string[],
  isCorsOn: boolean,
  reader: UsageReader,
): string[] {
  const kept: string[] = []
  let connection: string | null = null
  for (let i = 0; i < raw.length; i += 2) {
    const name = raw[i] as string
    const value = raw[i + 1] as string
    const kind = spellings.get(name) ?? judge(name)
    if (kind === 'keep' || (kind === 'cors' && !isCorsOn)) kept.push(name, value)
    else if (kind === 'connection')
      connection = connection === null ? value : `${connection}, ${value}`
    else if (kind === 'usage')
      reader.appUsage = reader.appUsage === null ? value : `${reader.appUsage}, ${value}`
  }
  if (connection !== null) dropListed(kept, connection)
  return kept
}

function judge(spelling: string): Kind {
  const name = spelling.toLowerCase()
  let kind: Kind = 'keep'
  if (name === 'connection') kind = 'connection'
  else if (name === 'x-usage') kind = 'usage'
  else if (DROPPED.has(name) || isOwnName(name)) kind = 'drop'
  else if (name.startsWith('access-control-')) kind = 'cors'
  if (spellings.size < SPELLINGS_MAX && spelling.length <= SPELLING_CHARS_MAX) {
    spellings.set(spelling, kind)
  }
  return kind
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
