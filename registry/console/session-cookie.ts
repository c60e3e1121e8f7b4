import type { IncomingHttpHeaders } from 'node:http'
import { Fault } from '../lib/errors.ts'

/** Set by the console's own code at each request: no form can, nor a page of another origin without our leave. */
export const CONSOLE_HEADER = 'x-doorman-console'
/** Its value where the page asks by itself, without a person. */
export const BY_ITSELF = 'poll'

const PLAIN = 'doorman_session'
/** RFC 6265bis section 4.1.3.2: no other host, and nobody without TLS, can set such a one. */
const SECURE = '__Host-doorman_session'

export interface SessionCookie {
  readonly id: string
  readonly isSecure: boolean
}

/** The session of a request; null where there is none. */
export function cookieOf({ cookie = '' }: IncomingHttpHeaders): SessionCookie | null {
  const given = cookie.split(';').map(pair => pair.trim())
  for (const [name, isSecure] of [
    [SECURE, true],
    [PLAIN, false],
  ] as const) {
    const pair = given.find(text => text.startsWith(`${name}=`))
    if (pair !== undefined) return { id: pair.slice(name.length + 1), isSecure }
  }
  return null
}

/**
 * Without Max-Age: it goes with the browser, and before that when the Registry says so.
 *
 * @param id empty: the browser is to forget it
 */
export function setCookie(id: string, isSecure: boolean): string {
  const name = isSecure ? SECURE : PLAIN
  const flags = `Path=/; HttpOnly; SameSite=Strict${isSecure ? '; Secure' : ''}`
  return `${name}=${id}; ${flags}${id === '' ? '; Max-Age=0' : ''}`
}

/**
 * A browser sends a cookie with whatever a page of any port of the same host asks for, so that a cookie alone
 * opens nothing: the console's own page must have asked.
 *
 * @throws Fault ADMIN_ORIGIN_REFUSED
 */
export function requireConsole(headers: IncomingHttpHeaders, method: string): void {
  if (headers[CONSOLE_HEADER] === undefined) throw refused('a cookie without the console’s header')
  const site = headers['sec-fetch-site']
  // No page can set it. Browsers leave it out where a page came over plain HTTP from another machine.
  if (site !== undefined) {
    if (site !== 'same-origin') throw refused(`a request from ${shown(site)}`)
    return
  }
  const { origin } = headers
  if (origin === undefined && (method === 'GET' || method === 'HEAD')) return
  const host = origin === undefined ? undefined : URL.parse(origin)?.host
  if (host === undefined || host !== headers.host?.toLowerCase()) {
    throw refused(`a request from the origin ${shown(origin)}`)
  }
}

/** Of the page that asks, as its browser says. */
export function isOverTls({ origin }: IncomingHttpHeaders): boolean {
  return origin?.toLowerCase().startsWith('https://') === true
}

function refused(reason: string): Fault {
  return new Fault('ADMIN_ORIGIN_REFUSED', reason)
}

function shown(text: unknown): string {
  return String(text).slice(0, 128)
}
