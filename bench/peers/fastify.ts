import { packageVersion, startNodePeer } from './node-peer.ts'
import type { Peer } from './peer.ts'

/** The usual gateway in Fastify: @fastify/jwt and @fastify/http-proxy. */
export const fastify: Peer = {
  name: 'fastify',
  does:
    'The same job as a user of @fastify/http-proxy + @fastify/jwt (fast-jwt, no cache) writes it: token verified per ' +
    'request, tenant from a Map, copies of x-tenant-* stripped, context and HMAC per request. Less: as HAProxy. ' +
    'WebSocket messages are parsed and framed anew.',
  isFullJob: true,
  isJit: true,
  find: async () => packageVersion('@fastify/http-proxy'),
  start: setting => startNodePeer('./fastify-server.ts', setting),
}
