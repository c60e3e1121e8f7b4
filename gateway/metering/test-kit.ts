import { once } from 'node:events'
import { createServer } from 'node:http'
import { type AddressInfo, connect, type Socket } from 'node:net'

/** Of one tenant, by those who know it: what the app has answered, and what clients have read to its end. */
export interface Counted {
  /** Below 500. */
  app: number
  client: number
  emails: number
}

export interface CountingApp {
  readonly origin: string
  readonly counted: ReadonlyMap<string, Counted>
  close(): void
}

/**
 * An app that counts its answers by path, `/api/TENANT/N`: each 10th is 404, each 50th is 500, each other adds to
 * a counter of its own.
 */
export async function startCountingApp(tenants: readonly string[]): Promise<CountingApp> {
  const counted = new Map(tenants.map(id => [id, { app: 0, client: 0, emails: 0 }]))
  const server = createServer((req, res) => {
    const [, , tenant = '', n = '0'] = (req.url ?? '').split('/')
    const own = counted.get(tenant)
    const i = Number(n)
    const status = i % 50 === 49 ? 500 : i % 10 === 9 ? 404 : 200
    if (own !== undefined && status < 500) {
      own.app++
      own.emails += i % 3
    }
    res.writeHead(status, { 'content-length': '2', 'x-usage': `emails=${i % 3}` }).end('ok')
  })
  server.keepAliveTimeout = 65_000
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  return {
    origin: `http://127.0.0.1:${port}`,
    counted,
    close() {
      server.close()
      server.closeAllConnections()
    },
  }
}

export interface LoadOptions {
  readonly ports: readonly number[]
  readonly connections: number
  readonly requests: number
  /** Tenant and token of request `i`. */
  readonly of: (i: number) => { readonly tenant: string; readonly token: string }
  readonly counted: ReadonlyMap<string, Counted>
}

export interface LoadResult {
  readonly answered: number
  /** By status. */
  readonly statuses: ReadonlyMap<number, number>
  /** Requests whose connection ended without an answer; none is sent again. */
  readonly unanswered: number
}

/** Closed loop: as many requests at a time as connections. Resolves when each was sent once. */
export async function runLoad(options: LoadOptions): Promise<LoadResult> {
  const statuses = new Map<number, number>()
  const state = { next: 0, unanswered: 0 }
  await Promise.all(
    Array.from({ length: options.connections }, (_, i) =>
      runConnection(options, options.ports[i % options.ports.length] as number, state, statuses),
    ),
  )
  const answered = [...statuses.values()].reduce((sum, count) => sum + count, 0)
  return { answered, statuses, unanswered: state.unanswered }
}

/** One request after the other, over new connections whenever the one before ends. */
async function runConnection(
  { requests, of, counted }: LoadOptions,
  port: number,
  state: { next: number; unanswered: number },
  statuses: Map<number, number>,
): Promise<void> {
  let socket: Socket | null = null
  while (state.next < requests) {
    const i = state.next++
    const { tenant, token } = of(i)
    socket = socket === null || socket.destroyed || socket.readableEnded ? await dial(port) : socket
    const answer = await ask(
      socket,
      `GET /api/${tenant}/${i} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer ${token}\r\n\r\n`,
    )
    if (answer === null) {
      state.unanswered++
      socket.destroy()
      continue
    }
    const status = Number(answer.slice(9, 12))
    statuses.set(status, (statuses.get(status) ?? 0) + 1)
    const own = counted.get(tenant)
    if (own !== undefined && (status === 200 || status === 404)) own.client++
    if (/^connection: close/im.test(answer)) socket.destroy()
  }
  socket?.destroy()
}

const DIAL_MS = 20_000
const ANSWER_MS = 5000

/** Until somebody listens: a gateway may be between two processes. */
async function dial(port: number): Promise<Socket> {
  const deadline = performance.now() + DIAL_MS
  for (;;) {
    const socket = connect({ port, host: '127.0.0.1', noDelay: true })
    socket.setEncoding('latin1')
    const isOpen = await new Promise<boolean>(resolve => {
      socket.once('connect', () => resolve(true))
      socket.once('error', () => resolve(false))
    })
    if (isOpen) return socket.on('error', () => {})
    if (performance.now() > deadline) throw new Error(`nobody listens on ${port}`)
    await new Promise(resolve => setTimeout(resolve, 20))
  }
}

/** A whole answer; null: the connection ended before. */
function ask(socket: Socket, request: string): Promise<string | null> {
  return new Promise(resolve => {
    let answer = ''
    // A connection may be lost between a primary and its worker that was killed.
    const timer = setTimeout(() => settle(null), ANSWER_MS)
    const settle = (value: string | null) => {
      clearTimeout(timer)
      socket.off('data', onData)
      socket.off('close', onClose)
      socket.off('end', onClose)
      resolve(value)
    }
    const onClose = () => settle(null)
    const onData = (text: string) => {
      answer += text
      const end = answer.indexOf('\r\n\r\n')
      if (end === -1) return
      const length = Number(/^content-length: (\d+)/im.exec(answer)?.[1] ?? 0)
      if (answer.length >= end + 4 + length) settle(answer)
    }
    socket.on('data', onData)
    socket.on('close', onClose)
    socket.on('end', onClose)
    socket.write(request)
  })
}
