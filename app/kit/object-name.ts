import { Fault } from '../../registry/lib/errors.ts'

/** As a path segment and as a file name on most systems, in bytes of UTF-8. */
const NAME_BYTES_MAX = 255
/** S3 takes keys of at most 1024 bytes. */
const KEY_BYTES_MAX = 1024

/**
 * The key of a tenant's object: its prefix and one name without any structure of its own. The name
 * comes decoded once, by the router; what would mean something else decoded again is refused.
 *
 * @throws Fault VALIDATION_FAILED
 */
export function objectKey(prefix: string, name: string): string {
  if (!isObjectName(name)) throw refused()
  const key = prefix + name
  if (Buffer.byteLength(key) > KEY_BYTES_MAX) throw refused()
  return key
}

/** True for one path segment that is safe in a key, in a header and on a disk. */
export function isObjectName(name: string): boolean {
  if (name === '' || Buffer.byteLength(name) > NAME_BYTES_MAX) return false
  if (hasStructure(name) || !name.isWellFormed()) return false
  try {
    return !hasStructure(decodeURIComponent(name))
  } catch {
    return true // A lone % decodes to nothing else.
  }
}

/**
 * A prefix that cannot run into another one: `acme` and `acme2` would share the key `acme2…`.
 *
 * @throws Fault TENANT_CONFIG_INVALID where the prefix would leave its place
 */
export function normalPrefix(prefix: string | null): string {
  if (prefix === null || prefix === '') return ''
  const withSlash = prefix.endsWith('/') ? prefix : `${prefix}/`
  const isSound = withSlash.slice(0, -1).split('/').every(isObjectName)
  if (!isSound) throw new Fault('TENANT_CONFIG_INVALID', 'bucket prefix is not valid')
  return withSlash
}

/** Control characters, separators, and dots that a file system behind the bucket could follow. */
function hasStructure(name: string): boolean {
  return /[\p{Cc}\u2028\u2029/\\]/u.test(name) || name.includes('..') || name === '.'
}

function refused(): Fault {
  return new Fault('VALIDATION_FAILED', 'object name refused', {
    publicMessage: 'The file name is not valid.',
  })
}
