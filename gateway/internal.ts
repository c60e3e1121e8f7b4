import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'
import type { Exposition } from '../registry/lib/exposition.ts'
import type { Admin } from './admin.ts'

/** What the internal listener shows: of one gateway, or of all workers as one. */
export interface InternalView {
  /** @param accept which format the scraper wants */
  metrics(accept: string | undefined): Promise<Exposition>
  /** null: ready; else what is missing, in words. */
  whyNotReady(): string | null
}

export interface InternalListener {
  readonly address: AddressInfo
  /** The admin API's calls that are under way may end. */
  close(): Promise<void>
}

/** What a rotation or a test that is under way gets, at the end of the process. */
const CLOSE_MS = 1000
/** Operators, probes and a scraper; whoever floods it gets no more. */
const CONNECTIONS_MAX = 1024

/**
 * The internal listener: `/livez`, `/readyz`, `/metrics`, and the admin API. Never exposed to tenants.
 * Rejects where the port cannot be had.
 */
export async function startInternal(
  view: InternalView,
  admin: Admin,
  port: number,
  host: string,
): Promise<InternalListener> {
  const server = createServer({ requestTimeout: 10_000, headersTimeout: 10_000 }, (req, res) => {
    const answer = (status: number, type: string, body: string) => {
      res.writeHead(status, { 'content-type': type, 'cache-control': 'no-store' }).end(body)
    }
    // Of a client that is gone; without a listener it would end the process.
    res.on('error', () => {})
    if (admin.take(req, res)) return
    req.resume()
    if (req.method !== 'GET' && req.method !== 'HEAD') return answer(405, 'text/plain', '')
    switch (req.url?.split('?')[0]) {
      case '/livez':
        return answer(200, 'application/json', '{"status":"ok"}')
      case '/readyz': {
        const reason = view.whyNotReady()
        const body = JSON.stringify(reason === null ? { status: 'ok' } : { status: 'no', reason })
        return answer(reason === null ? 200 : 503, 'application/json', body)
      }
      case '/metrics':
        view.metrics(req.headers.accept).then(
          ({ contentType, text }) => answer(200, contentType, text),
          () => answer(503, 'text/plain', ''),
        )
        return
      default:
        return answer(404, 'text/plain', '')
    }
  })
  server.maxConnections = CONNECTIONS_MAX
  server.on('clientError', (_error, socket) => socket.destroy())
  server.listen(port, host)
  await once(server, 'listening')
  return {
    address: server.address() as AddressInfo,
    async close() {
      server.close()
      server.closeIdleConnections()
      await Promise.race([once(server, 'close'), delay(CLOSE_MS, null, { ref: false })])
      await admin.close()
      server.closeAllConnections()
    },
  }
}
