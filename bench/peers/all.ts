import { caddy } from './caddy.ts'
import { direct } from './direct.ts'
import { doorman } from './doorman.ts'
import { fastify } from './fastify.ts'
import { haproxy } from './haproxy.ts'
import { httpProxy } from './http-proxy.ts'
import { nginx } from './nginx.ts'
import { nginxLua } from './nginx-lua.ts'
import type { Peer } from './peer.ts'

/** In the order of the tables and of each round. */
export const PEERS: readonly Peer[] = [
  direct,
  doorman,
  haproxy,
  nginxLua,
  nginx,
  caddy,
  fastify,
  httpProxy,
]
