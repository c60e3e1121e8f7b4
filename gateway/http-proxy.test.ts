import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import util from 'node:util'
import t from 'tap'
import { WebSocket, WebSocketServer } from 'ws'
import { loadHttpProxy } from './http-proxy.ts'
import { until } from './test-kit.ts'

t.test('a handshake warns of nothing, and util is as it was', async t => {
  const warnings: string[] = []
  const onWarning = (warning: Error & { code?: string }) => warnings.push(warning.code ?? '')
  process.on('warning', onWarning)
  const found = Object.getOwnPropertyDescriptor(util, '_extend')
  const proxy = loadHttpProxy().createProxyServer({ ws: true })
  proxy.on('error', () => {})
  t.strictSame(Object.getOwnPropertyDescriptor(util, '_extend'), found)
  const upstream = new WebSocketServer({ port: 0, host: '127.0.0.1' })
  upstream.on('connection', (socket, { headers }) => socket.send(headers['x-marker'] as string))
  await once(upstream, 'listening')
  const target = `http://127.0.0.1:${(upstream.address() as AddressInfo).port}`
  const front = createServer()
  front.on('upgrade', (req, socket, head) => proxy.ws(req, socket, head, { target }))
  front.listen(0, '127.0.0.1')
  await once(front, 'listening')
  const url = `ws://127.0.0.1:${(front.address() as AddressInfo).port}`
  const client = new WebSocket(url, { headers: { 'x-marker': 'kept' } })
  client.on('error', () => {}) // cut at the end
  t.teardown(() => {
    client.terminate()
    front.close()
    for (const socket of upstream.clients) socket.terminate()
    upstream.close()
    process.off('warning', onWarning)
  })
  t.equal(String((await once(client, 'message'))[0]), 'kept')
  t.strictSame(warnings, [])
  // So that a warning would have been seen.
  Reflect.apply(Reflect.get(util, '_extend'), null, [{}, {}])
  await until(() => warnings.includes('DEP0060'))
})
