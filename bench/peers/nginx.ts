import { nginxVersion, startNginx } from './nginx-config.ts'
import type { Peer } from './peer.ts'

/** nginx as a plain reverse proxy: the floor, for it does none of the tenant work. */
export const nginx: Peer = {
  name: 'nginx',
  does:
    'Much less: a plain proxy_pass with keep-alive and a request id. No token is verified, no tenant ' +
    'found, no header stripped, no context added (about 1.3 KB fewer bytes to the upstream).',
  isFullJob: false,
  isJit: false,
  find: async () => nginxVersion(),
  start: setting => startNginx(setting, { main: '', http: '', location: '' }),
}
