import { Agent, createServer, type IncomingMessage, request, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'

/**
 * Stands between the gateways and the app replicas in both halves of the comparison, so that both pay
 * for the same hop: one port per replica. `pinned` passes each request to the port's own replica, so
 * that the gateway's choice stands; `round-robin` passes it to the next replica in turn, as a proxy
 * that knows nothing of tenants does. Arguments: the mode, and the replicas' ports.
 */
const [mode, ...replicas] = process.argv.slice(2)
const appPorts = replicas.map(Number)
const agent = new Agent({ keepAlive: true })
let turn = 0

const ports = await Promise.all(
  appPorts.map(async own => {
    const server = createServer((req, res) => {
      forward(req, res, mode === 'pinned' ? own : (appPorts[turn++ % appPorts.length] as number))
    })
    // Longer than the gateway keeps its idle connections.
    server.keepAliveTimeout = 65_000
    await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
    return (server.address() as AddressInfo).port
  }),
)
process.on('SIGTERM', () => process.exit(0))
process.stdout.write(`${JSON.stringify({ msg: 'listening', ports })}\n`)

function forward(req: IncomingMessage, res: ServerResponse, port: number): void {
  const { method, url, headers } = req
  const { connection: _hop, ...passed } = headers
  const upstream = request(
    { host: '127.0.0.1', port, agent, method, path: url, headers: passed },
    answer => {
      const { connection: _connection, 'keep-alive': _keepAlive, ...fields } = answer.headers
      res.writeHead(answer.statusCode ?? 502, fields)
      answer.on('error', () => res.destroy())
      answer.pipe(res)
    },
  )
  upstream.on('error', () => (res.headersSent ? res.destroy() : res.writeHead(502).end()))
  req.on('error', () => upstream.destroy())
  res.on('close', () => upstream.destroy())
  req.pipe(upstream)
}
