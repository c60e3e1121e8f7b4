import { once } from 'node:events'
import { type AddressInfo, connect, createServer, type Socket } from 'node:net'
import t from 'tap'
import { resetSocket } from './reset-socket.ts'

/** Both ends of one connection; the server's is handed to `work` when its first byte came. */
async function pair(work: (socket: Socket) => void): Promise<{ closed: boolean; peer: string }> {
  let closed = false
  const server = createServer({ allowHalfOpen: true }, socket => {
    socket.on('error', () => {})
    socket.on('close', () => {
      closed = true
    })
    socket.once('data', () => work(socket))
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const client = connect((server.address() as AddressInfo).port, '127.0.0.1')
  let peer = 'end'
  client.on('error', (error: NodeJS.ErrnoException) => {
    peer = String(error.code)
  })
  client.resume().write('x')
  await once(client, 'close').catch(() => {})
  await once(server.close(), 'close')
  return { closed, peer }
}

t.test('a socket is reset, and closed, whatever was said to it in the same turn', async t => {
  t.same(await pair(socket => resetSocket(socket)), { closed: true, peer: 'ECONNRESET' })
  const unread = Buffer.alloc(64 << 20)
  t.same(
    await pair(socket => {
      socket.write(unread)
      socket.end()
      resetSocket(socket)
    }),
    { closed: true, peer: 'ECONNRESET' },
    'what is not written yet is cut off',
  )
  t.match(
    await pair(socket => {
      socket.end()
      resetSocket(socket)
    }),
    { closed: true },
  )
  t.match(
    await pair(socket => {
      socket.end('all of it')
      queueMicrotask(() => resetSocket(socket))
    }),
    { closed: true },
  )
  t.match(
    await pair(socket => {
      socket.write('x')
      socket.end()
      resetSocket(socket)
    }),
    { closed: true },
  )
  t.match(
    await pair(socket => {
      socket.destroy()
      resetSocket(socket)
    }),
    { closed: true },
    'twice is harmless',
  )
})
