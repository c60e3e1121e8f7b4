import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'

/** What the internal listener shows: of one gateway, or of all workers as one. */
export interface InternalView {
  readonly contentType: string
  metrics(): Promise<string>
  /** null: ready; else what is missing, in words. */
  whyNotReady(): string | null
}

export interface InternalListener {
  readonly address: AddressInfo
  close(): void
}

/**
 * The internal listener: `/livez`, `/readyz`, `/metrics`. Never exposed to tenants. Rejects where the
 * port cannot be had.
 */
export async function startInternal(
  view: InternalView,
  port: number,
  host: string,
): Promise<InternalListener> {
  const server = createServer({ requestTimeout: 10_000, headersTimeout: 10_000 }, (req, res) => {
    const answer = (status: number, type: string, body: string) => {
      res.writeHead(status, { 'content-type': type, 'cache-control': 'no-store' }).end(body)
    }
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
        view.metrics().then(
          text => answer(200, view.contentType, text),
          () => answer(503, 'text/plain', ''),
        )
        return
      default:
        return answer(404, 'text/plain', '')
    }
  })
  server.on('clientError', (_error, socket) => socket.destroy())
  server.listen(port, host)
  await once(server, 'listening')
  return {
    address: server.address() as AddressInfo,
    close() {
      server.close()
      server.closeAllConnections()
    },
  }
}
