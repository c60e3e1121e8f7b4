import { createServer, type Server } from 'node:http'
import type { Registry } from 'prom-client'

export interface InternalOptions {
  readonly metrics: Registry
  /** null: ready; else what is missing, in words. */
  readonly whyNotReady: () => string | null
}

/** The internal listener: `/livez`, `/readyz`, `/metrics`. Never exposed to tenants. */
export function makeInternalServer({ metrics, whyNotReady }: InternalOptions): Server {
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
        const reason = whyNotReady()
        const body = JSON.stringify(reason === null ? { status: 'ok' } : { status: 'no', reason })
        return answer(reason === null ? 200 : 503, 'application/json', body)
      }
      case '/metrics':
        metrics.metrics().then(
          text => answer(200, metrics.contentType, text),
          () => answer(503, 'text/plain', ''),
        )
        return
      default:
        return answer(404, 'text/plain', '')
    }
  })
  server.on('clientError', (_error, socket) => socket.destroy())
  return server
}
