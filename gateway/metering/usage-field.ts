/**
 * The answer field in which an app adds to its tenant's counters: `x-usage: pdf_generated=1, emails=3`. A
 * dictionary of RFC 9651 (section 3.2), of which integers that are not negative are taken and nothing else: no
 * other values, no parameters. The gateway strips it, so no client ever sees it.
 */
export const USAGE_FIELD = 'x-usage'

const FIELD_CHARS_MAX = 512
const MEMBERS_MAX = 16
/** Nine digits: no answer of an app stands for more than that, and no sum of a day overflows. */
const MEMBER = /^([a-z][a-z0-9_]{0,31})=(\d{1,9})$/

/** What the gateway measures itself may not be said by the app. */
const RESERVED: ReadonlySet<string> = new Set([
  'api_requests',
  'active_users',
  'storage_gb',
  'bytes_in',
  'bytes_out',
  'duration_ms',
  'websockets',
  'websocket_ms',
  'websocket_minutes',
  'database_bytes',
  'bucket_bytes',
])

/** Why a field counts nothing. One member that is wrong spoils the whole field (RFC 9651 section 4.2). */
export type UsageFieldProblem = 'malformed' | 'too-long' | 'reserved'

/** Counters by name; of a name that comes twice the last counts (RFC 9651 section 4.2.2). */
export function parseUsageField(text: string): ReadonlyMap<string, number> | UsageFieldProblem {
  if (text.length > FIELD_CHARS_MAX) return 'too-long'
  const counters = new Map<string, number>()
  const members = text.split(',')
  if (members.length > MEMBERS_MAX) return 'too-long'
  for (const member of members) {
    const [, name, digits] = MEMBER.exec(trimBlanks(member)) ?? []
    if (name === undefined || digits === undefined) return 'malformed'
    if (RESERVED.has(name) || /^(requests|responses)_/.test(name)) return 'reserved'
    counters.set(name, Number(digits))
  }
  return counters
}

/** OWS of RFC 9110 section 5.6.3 alone: `trim` takes much more for a blank. */
function trimBlanks(text: string): string {
  return text.replace(/^[ \t]+|[ \t]+$/g, '')
}
