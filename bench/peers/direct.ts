import type { Peer } from './peer.ts'

/** No proxy at all: what the load generator and the upstream can do, and the latency they have themselves. */
export const direct: Peer = {
  name: 'direct',
  does: 'No proxy: the load generator talks to the upstream. Shows the ceiling of the harness.',
  isFullJob: false,
  isJit: false,
  find: async () => process.version,
  async start({ upstreamPort }) {
    return { port: upstreamPort, pid: -1, stop: async () => {} }
  },
}
