import { createHash } from 'node:crypto'
import { createServer, type Socket } from 'node:net'
import { echoFrames } from './echo.ts'
import { type Message, MessageReader } from './message.ts'

/**
 * The upstream of every proxy: as cheap as Node allows, so that what is measured is the proxy. Raw
 * sockets and answers rendered once. Prints its port.
 *
 * `/api/small` (also any POST), `/api/10k`, `/api/100k`, `/api/slow` (50 ms), `/api/inspect` (the head
 * as it arrived), `/api/ws` (WebSocket echo).
 */
const SLOW_MS = 50
const SMALL = answer(
  JSON.stringify({ status: true, message: 'ok', result: { id: 1, text: 'x'.repeat(48) } }),
)
const KB_10 = answer(filler(10 * 1024))
const KB_100 = answer(filler(100 * 1024))

const server = createServer({ noDelay: true }, socket => {
  const reader = new MessageReader()
  socket.on('error', () => socket.destroy())
  socket.on('data', function read(chunk) {
    try {
      for (const message of reader.push(chunk)) {
        if (message.isUpgrade) {
          socket.off('data', read)
          return upgrade(socket, message)
        }
        respond(socket, message)
      }
    } catch {
      socket.destroy()
    }
  })
})
server.listen(Number(process.argv[2] ?? 0), '127.0.0.1', 8192, () => {
  const address = server.address()
  process.stdout.write(`${typeof address === 'object' ? address?.port : ''}\n`)
})
process.on('disconnect', () => process.exit(0))

function respond(socket: Socket, message: Message): void {
  switch (message.path) {
    case '/api/10k':
      socket.write(KB_10)
      return
    case '/api/100k':
      socket.write(KB_100)
      return
    case '/api/slow':
      setTimeout(() => socket.write(SMALL), SLOW_MS)
      return
    case '/api/inspect':
      socket.write(answer(JSON.stringify(message.head.split('\r\n'))))
      return
    default:
      socket.write(SMALL)
  }
}

function upgrade(socket: Socket, { head }: Message): void {
  const key = /\r\nsec-websocket-key: *(\S+)/i.exec(head)?.[1] ?? ''
  const accept = createHash('sha1')
    .update(`${key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`)
    .digest('base64')
  socket.write(
    `HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n` +
      `Sec-WebSocket-Accept: ${accept}\r\n\r\n`,
  )
  echoFrames(socket)
}

function answer(body: string): Buffer {
  return Buffer.from(
    `HTTP/1.1 200 OK\r\nContent-Type: application/json; charset=utf-8\r\n` +
      `Cache-Control: no-store\r\nContent-Length: ${body.length}\r\n\r\n${body}`,
    'latin1',
  )
}

function filler(bytes: number): string {
  const line = JSON.stringify({ id: 1, name: 'a line of an answer', text: 'y'.repeat(56) })
  return `[${`${line},`.repeat(Math.floor(bytes / (line.length + 1)) - 1)}${line}]`
}
