import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { z } from 'zod'
import type { Authenticator, KeyHolder } from '../admin/authenticate.ts'
import { readFields } from '../admin/fields.ts'
import { Fault, OWN_ANSWER_FIELDS } from '../lib/errors.ts'
import {
  BY_ITSELF,
  CONSOLE_HEADER,
  cookieOf,
  isOverTls,
  requireConsole,
  setCookie,
} from './session-cookie.ts'
import type { ConsoleSessions, Session } from './sessions.ts'

declare module 'fastify' {
  interface FastifyContextConfig {
    /** Open to who has no key yet; it looks at the session itself. */
    isSignIn?: boolean
  }
}

const SIGN_IN_BYTES_MAX = 4096

const signInBody = z.strictObject({ key: z.string('must be a text').min(1).max(1024) })

/** Signing in to the console and out of it: `/session` below `base`. */
export function serveSessions(
  app: FastifyInstance,
  base: string,
  doors: Authenticator,
  sessions: ConsoleSessions,
): void {
  const url = `${base}/session`
  app.post(
    url,
    { config: { isSignIn: true }, bodyLimit: SIGN_IN_BYTES_MAX },
    async (request, reply) => {
      // Or a page elsewhere could sign someone in as somebody else.
      requireConsole(request.headers, request.method)
      const { key } = readFields(signInBody, request.body ?? undefined)
      const holder = await doors.authenticate(key, addressOf(request))
      const isSecure = isOverTls(request.headers)
      const id = await sessions.open(holder, key, isSecure, request.id)
      request.actor = { ...holder, requestId: request.id }
      reply.header('set-cookie', setCookie(id, isSecure))
      const { name, scope } = holder
      return answer(reply, 'Signed in.', { name, scope })
    },
  )
  app.get(url, { config: { isSignIn: true } }, async (request, reply) => {
    const session = await sessionOf(request, sessions)
    if (session === null) return answer(reply, 'No session.', null)
    const { name, scope } = session
    return answer(reply, 'Session.', { name, scope, rest_ms: session.restMs })
  })
  app.delete(url, async (request, reply) => {
    const cookie = cookieOf(request.headers)
    const { actor } = request
    if (cookie === null || actor === null) {
      throw new Fault('ADMIN_SESSION_ENDED', 'a key, and no session')
    }
    await sessions.end(cookie.id, actor, request.id)
    reply.header('set-cookie', setCookie('', cookie.isSecure))
    return answer(reply, 'Signed out.', {})
  })
}

/**
 * Who asks: by a key where one is sent, else by the console's cookie.
 *
 * @throws Fault ADMIN_KEY_INVALID, ADMIN_LIMITED, ADMIN_DISABLED, ADMIN_ORIGIN_REFUSED, ADMIN_SESSION_ENDED
 */
export async function holderOf(
  request: FastifyRequest,
  key: string | null,
  doors: Authenticator,
  sessions: ConsoleSessions,
): Promise<KeyHolder> {
  if (key === null) {
    const session = await sessionOf(request, sessions)
    if (session !== null) return { name: session.name, scope: session.scope }
  }
  return doors.authenticate(key, addressOf(request))
}

async function sessionOf(
  request: FastifyRequest,
  sessions: ConsoleSessions,
): Promise<Session | null> {
  const cookie = cookieOf(request.headers)
  if (cookie === null) return null
  requireConsole(request.headers, request.method)
  const isPerson = request.headers[CONSOLE_HEADER] !== BY_ITSELF
  return sessions.find(cookie.id, cookie.isSecure, addressOf(request), isPerson)
}

function addressOf({ socket }: FastifyRequest): string {
  return socket.remoteAddress ?? ''
}

function answer(reply: FastifyReply, message: string, result: object | null): FastifyReply {
  for (let i = 0; i < OWN_ANSWER_FIELDS.length; i += 2) {
    reply.header(OWN_ANSWER_FIELDS[i] as string, OWN_ANSWER_FIELDS[i + 1])
  }
  return reply.send({ status: true, message, result })
}
