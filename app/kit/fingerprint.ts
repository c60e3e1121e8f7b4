import { createHash } from 'node:crypto'

/**
 * Tells two sets of connection details apart without keeping them: a rotated password gives another
 * fingerprint. Every field is given with its length, so that no two lists of fields share one text.
 */
export function fingerprint(fields: readonly (string | number | null)[]): string {
  const hash = createHash('sha256')
  for (const field of fields) {
    const text = field === null ? 'null' : `${typeof field}:${field}`
    hash.update(`${Buffer.byteLength(text)}:`).update(text)
  }
  return hash.digest('base64url')
}
