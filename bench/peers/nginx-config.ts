import { spawnSync } from 'node:child_process'
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { acceptsConnections, freePort, startChild, waitUntilReady } from '../lib/child.ts'
import type { Running, Setting } from './peer.ts'

/** What the two nginx peers add to the common configuration. */
export interface NginxParts {
  /** Lines of the main context. */
  readonly main: string
  /** Lines of `http`. */
  readonly http: string
  /** Lines of `location /`. */
  readonly location: string
}

export function nginxVersion(): string | null {
  const { status, stderr } = spawnSync('nginx', ['-v'], { encoding: 'utf8' })
  return status === 0 ? (/nginx\/(\S+)/.exec(stderr)?.[1] ?? 'unknown') : null
}

/** One worker, keep-alive to the upstream, no logs, no file on disk for any body of the bench. */
export async function startNginx(setting: Setting, parts: NginxParts): Promise<Running> {
  const port = await freePort()
  await mkdir(join(setting.dir, 'temp'), { recursive: true })
  const config = join(setting.dir, 'nginx.conf')
  await writeFile(config, renderConfig(setting, port, parts))
  const child = await startChild(['nginx', '-p', setting.dir, '-c', config, '-g', 'daemon off;'], {
    prefix: setting.prefix,
  })
  await waitUntilReady(child, () => acceptsConnections(port))
  return { port, pid: child.pid, stop: () => child.stop() }
}

function renderConfig(setting: Setting, port: number, parts: NginxParts): string {
  // Workers of a master that runs as root give up their rights, and could not write into `dir`.
  const user = process.getuid?.() === 0 ? 'user root;' : ''
  const paths = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi']
    .map(name => `  ${name}_temp_path temp/${name};`)
    .join('\n')
  return `${user}
worker_processes 1;
worker_rlimit_nofile ${setting.connectionsMax + 5000};
pid nginx.pid;
error_log stderr error;
${parts.main}
events { worker_connections ${setting.connectionsMax + 5000}; }
http {
  access_log off;
${paths}
  keepalive_timeout 120s;
  keepalive_requests 1000000000;
  tcp_nodelay on;
  client_body_buffer_size 128k;
  proxy_buffers 16 16k;
  proxy_buffer_size 16k;
  proxy_busy_buffers_size 64k;
  proxy_max_temp_file_size 0;
  map $http_upgrade $upstream_connection { default upgrade; '' ''; }
  upstream app {
    server 127.0.0.1:${setting.upstreamPort};
    keepalive 4096;
    keepalive_requests 1000000000;
    keepalive_timeout 120s;
  }
${parts.http}
  server {
    listen 127.0.0.1:${port} backlog=8192;
    location / {
${parts.location}
      proxy_http_version 1.1;
      proxy_set_header Host $host;
      proxy_set_header Connection $upstream_connection;
      proxy_set_header Upgrade $http_upgrade;
      proxy_set_header X-Forwarded-For $remote_addr;
      proxy_set_header X-Request-Id $request_id;
      proxy_pass http://app;
    }
  }
}
`
}
