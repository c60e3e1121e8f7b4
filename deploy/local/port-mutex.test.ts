import { once } from 'node:events'
import { createServer, type Socket } from 'node:net'
import t from 'tap'
import { exclusively } from './port-mutex.ts'
import { freePort } from './ports.ts'

const never = new AbortController().signal

t.test('one holder at a time, and a failing one gives it back', async t => {
  const port = await freePort()
  let inside = 0
  let most = 0
  const work = async () => {
    inside += 1
    most = Math.max(most, inside)
    await new Promise(resolve => setTimeout(resolve, 20))
    inside -= 1
    if (inside === 0) throw new Error('fails')
  }
  const runs = await Promise.allSettled([1, 2, 3].map(() => exclusively(never, work, port)))
  t.equal(most, 1)
  t.same(
    runs.map(run => run.status),
    ['rejected', 'rejected', 'rejected'],
  )
  t.equal(await exclusively(never, async () => 'free again', port), 'free again')
})

t.test('a stranger on the port does not block', async t => {
  const sockets: Socket[] = []
  const stranger = createServer(socket => {
    sockets.push(socket)
    socket.on('error', () => {})
    socket.write('SSH-2.0-something')
  }).listen(0, '127.0.0.1')
  t.teardown(() => {
    stranger.close()
    for (const socket of sockets) socket.destroy()
  })
  await once(stranger, 'listening')
  const { port } = stranger.address() as { port: number }
  t.equal(await exclusively(never, async () => 'done', port), 'done')
})

t.test('waiting ends with the signal', async t => {
  const port = await freePort()
  const interrupt = new AbortController()
  await exclusively(
    never,
    async () => {
      const waiting = exclusively(interrupt.signal, async () => {}, port)
      interrupt.abort()
      await t.rejects(waiting, { name: 'AbortError' })
    },
    port,
  )
})
