import { Agent, createServer, type IncomingMessage } from 'node:http'
import { Readable } from 'node:stream'
import HttpProxy from 'http-proxy'
import { jwtVerify } from 'jose'
import { isOurName, loadTenants, tenantHeaders } from './tenant-context.ts'

/** Arguments: port, upstream port, world file. */
const [port, upstreamPort, worldFile] = process.argv.slice(2) as [string, string, string]
const { jwtSecret, contexts } = loadTenants(worldFile)
const key = new TextEncoder().encode(jwtSecret)

const proxy = HttpProxy.createProxyServer({
  target: `http://127.0.0.1:${upstreamPort}`,
  agent: new Agent({ keepAlive: true, maxSockets: 4096, maxFreeSockets: 4096 }),
  xfwd: true,
})
proxy.on('error', (_error, _request, answer) => {
  if ('writeHead' in answer) answer.writeHead(502).end()
  else answer.destroy()
})

const server = createServer({ keepAliveTimeout: 120_000 }, async (request, response) => {
  try {
    if (request.url === '/api/auth/login') {
      const body = await readBody(request)
      admit(request, (JSON.parse(body.toString()) as { tenant_key: string }).tenant_key, '')
      proxy.web(request, response, { buffer: Readable.from([body]) })
      return
    }
    await authenticate(request)
    proxy.web(request, response)
  } catch {
    response.writeHead(401, { 'content-length': 0 }).end()
  }
})
server.on('upgrade', async (request, socket, head) => {
  socket.on('error', () => socket.destroy())
  try {
    await authenticate(request)
    proxy.ws(request, socket, head)
  } catch {
    socket.end('HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\nConnection: close\r\n\r\n')
  }
})
server.listen(Number(port), '127.0.0.1', 8192)

async function authenticate(request: IncomingMessage): Promise<void> {
  const [scheme, token] = request.headers.authorization?.split(' ') ?? []
  if (scheme !== 'Bearer' || token === undefined) throw new Error('no token')
  const { payload } = await jwtVerify(token, key, {
    algorithms: ['HS256'],
    requiredClaims: ['exp'],
  })
  if (payload.type !== 'access') throw new Error('not an access token')
  admit(request, String(payload.tenant_id), String(payload.id))
}

function admit(request: IncomingMessage, tenant: string, user: string): void {
  const context = contexts.get(tenant)
  if (context === undefined) throw new Error('unknown tenant')
  for (const name of Object.keys(request.headers)) {
    if (isOurName(name)) delete request.headers[name]
  }
  const { method = 'GET', url = '/' } = request
  Object.assign(request.headers, tenantHeaders(context, tenant, user, method, url))
}

async function readBody(request: IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = []
  for await (const chunk of request) chunks.push(chunk as Buffer)
  return Buffer.concat(chunks)
}
