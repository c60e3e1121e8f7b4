import { once } from 'node:events'
import { createServer } from 'node:net'
import t from 'tap'
import { freePort, preferredPort } from './ports.ts'

t.test('the preferred port is kept while free and given up while taken', async t => {
  const port = await freePort()
  t.equal(await preferredPort(port), port)
  const server = createServer().listen(port, '127.0.0.1')
  t.teardown(() => server.close())
  await once(server, 'listening')
  const other = await preferredPort(port)
  t.not(other, port)
  const second = createServer().listen(other, '127.0.0.1')
  t.teardown(() => second.close())
  await once(second, 'listening')
})
