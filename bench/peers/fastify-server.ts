import type { IncomingHttpHeaders } from 'node:http'
import proxy from '@fastify/http-proxy'
import jwt from '@fastify/jwt'
import Fastify, { type FastifyReply, type FastifyRequest } from 'fastify'
import { isOurName, loadTenants, tenantHeaders } from './tenant-context.ts'

declare module 'fastify' {
  interface FastifyRequest {
    added: Record<string, string> | null
  }
}

/** Arguments: port, upstream port, world file. */
const [port, upstreamPort, worldFile] = process.argv.slice(2) as [string, string, string]
const { jwtSecret, contexts } = loadTenants(worldFile)

const app = Fastify({ keepAliveTimeout: 120_000, bodyLimit: 2 ** 20 })
const common = {
  upstream: `http://127.0.0.1:${upstreamPort}`,
  undici: { connections: 4096, pipelining: 1, keepAliveTimeout: 120_000 },
  replyOptions: {
    rewriteRequestHeaders: (request: object, headers: IncomingHttpHeaders) =>
      rewrite(request as FastifyRequest, headers),
  },
}
// rewriteRequestHeaders is missing from the package's types, and documented in its README.
const wsClientOptions = {
  perMessageDeflate: false,
  rewriteRequestHeaders: (headers: IncomingHttpHeaders, request: FastifyRequest) =>
    rewrite(request, headers),
}
app.decorateRequest('added', null)
await app.register(jwt, { secret: jwtSecret, verify: { algorithms: ['HS256'] } })
await app.register(proxy, {
  ...common,
  prefix: '/api',
  rewritePrefix: '/api',
  websocket: true,
  wsClientOptions,
  preHandler: authenticate,
})
// Its body is parsed, to find the tenant, and serialised anew.
await app.register(proxy, {
  ...common,
  prefix: '/api/auth/login',
  rewritePrefix: '/api/auth/login',
  proxyPayloads: false,
  preHandler: async (request: FastifyRequest, reply: FastifyReply) => {
    const { tenant_key: key } = request.body as { tenant_key?: string }
    return admit(request, key ?? '', '') ? undefined : reply.code(401).send()
  },
})
await app.listen({ port: Number(port), host: '127.0.0.1', backlog: 8192 })

async function authenticate(request: FastifyRequest, reply: FastifyReply) {
  try {
    const claims = await request.jwtVerify<{ tenant_id: string; id: string; type: string }>()
    if (claims.type === 'access' && admit(request, claims.tenant_id, claims.id)) return undefined
  } catch {
    // Some faults of a token come without a status (FAST_JWT_INVALID_ALGORITHM).
  }
  return reply.code(401).send()
}

function admit(request: FastifyRequest, tenant: string, user: string): boolean {
  const context = contexts.get(tenant)
  if (context === undefined) return false
  request.added = tenantHeaders(context, tenant, user, request.method, request.url)
  return true
}

function rewrite(request: FastifyRequest, headers: IncomingHttpHeaders): IncomingHttpHeaders {
  const kept = Object.entries(headers).filter(([name]) => !isOurName(name))
  return { ...Object.fromEntries(kept), ...request.added }
}
