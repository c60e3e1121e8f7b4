import { packageVersion, startNodePeer } from './node-peer.ts'
import type { Peer } from './peer.ts'

/** The oldest way in Node: http-proxy behind node:http, jose per request. */
export const httpProxy: Peer = {
  name: 'http-proxy',
  does:
    'The same job with http-proxy and jose.jwtVerify per request behind node:http: tenant from a Map, copies of ' +
    'x-tenant-* stripped, context and HMAC per request. Less: as HAProxy.',
  isFullJob: true,
  isJit: true,
  find: async () => packageVersion('http-proxy'),
  start: setting => startNodePeer('./http-proxy-server.ts', setting),
}
