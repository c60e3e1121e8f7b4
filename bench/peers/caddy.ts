import { spawnSync } from 'node:child_process'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { acceptsConnections, freePort, startChild, waitUntilReady } from '../lib/child.ts'
import type { Peer } from './peer.ts'

/** Caddy as a plain reverse proxy. */
export const caddy: Peer = {
  name: 'caddy',
  does:
    'Much less: a plain reverse_proxy with keep-alive that strips x-tenant-* and sets a request id. No token is ' +
    'verified, no tenant found, no context added. GOMAXPROCS=1.',
  isFullJob: false,
  isJit: false,
  async find() {
    const { status, stdout } = spawnSync('caddy', ['version'], { encoding: 'utf8' })
    return status === 0 ? (stdout.trim().split(' ')[0] ?? 'unknown') : null
  },
  async start({ dir, upstreamPort, prefix }) {
    const port = await freePort()
    const config = join(dir, 'Caddyfile')
    await writeFile(config, renderConfig(port, upstreamPort))
    const child = await startChild(['caddy', 'run', '--config', config, '--adapter', 'caddyfile'], {
      prefix,
      env: { GOMAXPROCS: '1', HOME: dir, XDG_DATA_HOME: dir, XDG_CONFIG_HOME: dir },
    })
    await waitUntilReady(child, () => acceptsConnections(port))
    return { port, pid: child.pid, stop: () => child.stop() }
  },
}

function renderConfig(port: number, upstreamPort: number): string {
  return `{
  admin off
  auto_https off
  log {
    level ERROR
  }
}
http://:${port} {
  bind 127.0.0.1
  reverse_proxy 127.0.0.1:${upstreamPort} {
    header_up -X-Tenant-*
    header_up X-Request-Id {http.request.uuid}
    transport http {
      keepalive 120s
      keepalive_idle_conns 4096
      keepalive_idle_conns_per_host 4096
    }
  }
}
`
}
