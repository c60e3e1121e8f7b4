import { spawnSync } from 'node:child_process'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { acceptsConnections, freePort, startChild, waitUntilReady } from '../lib/child.ts'
import { makeContextMap, PEER_HMAC_KEY, renderContextMap } from './context-map.ts'
import type { Peer, Setting } from './peer.ts'

/** HAProxy, one thread, the same job in its configuration language: the reference of the ratios. */
export const haproxy: Peer = {
  name: 'haproxy',
  does:
    'The same job: HS256 and exp verified on every request (no cache), tenant by a map in memory, ' +
    'copies of x-tenant-* stripped, a context of the same length and an HMAC-SHA256 per request over ' +
    'tenant, user, method, target and request id. Less: the context is a constant (no Registry, no encryption, no ' +
    'expiry), and there is no usage metering and no path canonicalisation.',
  isFullJob: true,
  isJit: false,
  async find() {
    const { status, stdout } = spawnSync('haproxy', ['-v'], { encoding: 'utf8' })
    if (status !== 0) return null
    const version = /version (\d+)\.(\d+)[^\s]*/.exec(stdout)
    const isEnough = version !== null && Number(version[1]) * 100 + Number(version[2]) >= 206
    return isEnough ? version[0].slice('version '.length) : null // `hmac` came with 2.6
  },
  async start(setting) {
    const port = await freePort()
    const config = join(setting.dir, 'haproxy.cfg')
    const map = join(setting.dir, 'tenants.map')
    await writeFile(map, renderContextMap(makeContextMap(setting.world)))
    await writeFile(config, renderConfig(setting, port, map))
    const child = await startChild(['haproxy', '-db', '-f', config], { prefix: setting.prefix })
    await waitUntilReady(child, () => acceptsConnections(port))
    return { port, pid: child.pid, stop: () => child.stop() }
  },
}

function renderConfig(setting: Setting, port: number, map: string): string {
  const key = PEER_HMAC_KEY.toString('base64')
  return `global
  nbthread 1
  maxconn ${setting.connectionsMax}
  no strict-limits
  tune.bufsize 32768
  tune.maxrewrite 8192

defaults
  mode http
  option http-keep-alive
  http-reuse always
  timeout client 120s
  timeout http-keep-alive 120s
  timeout http-request 10s
  timeout connect 5s
  timeout server 60s
  timeout tunnel 120s

frontend edge
  bind 127.0.0.1:${port} backlog 8192
  unique-id-format %[uuid]
  acl is_login path /api/auth/login
  http-request del-header x-tenant- -m beg
  http-request set-header x-request-id %[unique-id]

  # Login: the tenant's key stands in the body.
  http-request wait-for-body time 5s at-least 1k if is_login
  http-request set-var(txn.tenant) req.body,json_query('$.tenant_key') if is_login

  # Everything else: the access token.
  http-request set-var(txn.bearer) http_auth_bearer if !is_login
  http-request deny deny_status 401 unless is_login || { var(txn.bearer),jwt_header_query('$.alg') -m str HS256 }
  http-request deny deny_status 401 unless is_login || { var(txn.bearer),jwt_verify("HS256","${setting.world.jwtSecret}") -m int 1 }
  http-request set-var(txn.now) date() if !is_login
  http-request set-var(txn.exp) var(txn.bearer),jwt_payload_query('$.exp','int') if !is_login
  http-request deny deny_status 401 unless is_login || { var(txn.exp),sub(txn.now) -m int gt 0 }
  http-request deny deny_status 401 unless is_login || { var(txn.bearer),jwt_payload_query('$.type') -m str access }
  http-request set-var(txn.tenant) var(txn.bearer),jwt_payload_query('$.tenant_id') if !is_login
  http-request set-var(txn.user) var(txn.bearer),jwt_payload_query('$.id') if !is_login

  http-request set-var(txn.context) var(txn.tenant),map(${map})
  http-request deny deny_status 401 unless { var(txn.context) -m found }
  http-request set-var-fmt(txn.signed) "%[var(txn.tenant)] %[var(txn.user)] %[method] %[pathq] %[unique-id]"
  http-request set-header x-tenant-context %[var(txn.context)]
  http-request set-header x-tenant-request "%[var(txn.user)].%[unique-id].%[date()].%[var(txn.signed),hmac(sha256,${key}),ub64enc]"
  http-request set-header x-forwarded-for %[src]
  default_backend app

backend app
  server app1 127.0.0.1:${setting.upstreamPort} maxconn 4096 pool-max-conn -1
`
}
