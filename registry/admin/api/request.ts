import type { FastifyRequest } from 'fastify'
import { Fault } from '../../lib/errors.ts'
import { parseTenantId, type TenantId } from '../../tenant.ts'
import type { Expected } from '../change.ts'
import { wrongField } from '../fields.ts'
import { PLAN_CODE } from '../plans.ts'

/**
 * The key of a request: `Authorization: Bearer`, else `x-admin-api-key`; null where there is none.
 *
 * @throws Fault ADMIN_KEY_INVALID where both are there and differ
 */
export function keyOf({ headers }: FastifyRequest): string | null {
  const [, bearer = null] = /^Bearer +([\x21-\x7e]+)$/i.exec(headers.authorization ?? '') ?? []
  const given = headers['x-admin-api-key']
  const own = typeof given === 'string' && given !== '' ? given : null
  if (bearer !== null && own !== null && bearer !== own) {
    throw new Fault('ADMIN_KEY_INVALID', 'two keys that differ')
  }
  return bearer ?? own
}

/** @throws Fault VALIDATION_FAILED */
export function idOf(params: unknown): TenantId {
  const id = parseTenantId((params as { id?: unknown }).id)
  if (id === null) throw wrongField('id', 'must be a UUID')
  return id
}

/** Of a database host. @throws Fault VALIDATION_FAILED */
export function nameOf(params: unknown): string {
  const { name } = params as { name?: unknown }
  if (typeof name === 'string' && /^[a-z0-9][a-z0-9-]{0,62}$/.test(name)) return name
  throw wrongField('name', 'must be of a-z, 0-9 and -, 63 at most')
}

/** With or without the quotes of draft-ietf-httpapi-idempotency-key-header. @throws Fault VALIDATION_FAILED */
export function idempotencyKeyOf({ headers }: FastifyRequest): string | null {
  const given = headers['idempotency-key']
  if (given === undefined || given === '') return null
  const [, key] = /^"?([\x21\x23-\x5b\x5d-\x7e]{1,255})"?$/.exec(String(given)) ?? []
  if (key !== undefined) return key
  throw wrongField('Idempotency-Key', 'must be 1 to 255 printable characters without blanks')
}

/** @throws Fault VALIDATION_FAILED */
export function codeOf(params: unknown): string {
  const { code } = params as { code?: unknown }
  if (typeof code === 'string' && PLAN_CODE.test(code)) return code
  throw wrongField('code', 'must be the code of a plan')
}

/** RFC 9110 section 13.1.1. A weak tag matches nothing there. @throws Fault VALIDATION_FAILED */
export function expectedOf({ headers }: FastifyRequest): Expected {
  // Section 13.1.2; of a change the asterisk alone says something.
  const isNew = headers['if-none-match']?.trim() === '*'
  const text = headers['if-match']?.trim()
  if (text === undefined || text === '' || text === '*') return { isNew }
  const given = text.split(',').map(tag => /^(W\/)?"([^"]*)"$/.exec(tag.trim()))
  if (given.includes(null)) throw wrongField('If-Match', 'must be the ETag of what is changed')
  const tags = given.flatMap(tag => (tag?.[1] === undefined ? [tag?.[2] ?? ''] : []))
  return { isNew, tags, ifMatch: tags.map(Number) }
}

/** The query as a record of texts; a parameter that is empty counts as left out. */
export function queryOf({ query }: FastifyRequest): Record<string, unknown> {
  return Object.fromEntries(
    Object.entries(query as Record<string, unknown>).filter(([, value]) => value !== ''),
  )
}

/** WHATWG HTML section 9.2. */
export function lastEventIdOf({ headers }: FastifyRequest): string | null {
  const given = headers['last-event-id']
  return typeof given === 'string' ? given : null
}

/** As the gateway's. */
const SANE_ID = /^[A-Za-z0-9_-]{8,128}$/

export function saneRequestId(given: string | string[] | undefined): string | null {
  return typeof given === 'string' && SANE_ID.test(given) ? given : null
}
