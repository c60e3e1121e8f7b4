import { createHash } from 'node:crypto'
import { type Fault, publicFault } from '../lib/errors.ts'
import type { Expected } from './change.ts'

const CHARS = 22

/**
 * The tag of what has no version of its own: a hash of what may be set of it (RFC 9110 section 8.8.3). So a change by
 * SQL counts too, and who sets what was there before meets nobody.
 */
export function etagOf(values: readonly unknown[]): string {
  const hash = createHash('sha256').update(JSON.stringify(values))
  return hash.digest('base64url').slice(0, CHARS)
}

/** @param etag null: there is nothing @throws Fault PRECONDITION_FAILED */
export function requireTag(
  what: string,
  etag: string | null,
  { tags = null, isNew = false }: Expected,
): void {
  if (isNew && etag !== null) throw refused(`There is ${what} already.`)
  if (tags === null || (etag !== null && tags.includes(etag))) return
  throw refused(`Somebody else has changed ${what} since it was read.`)
}

function refused(text: string): Fault {
  return publicFault('PRECONDITION_FAILED', text)
}
