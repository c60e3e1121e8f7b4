import { once } from 'node:events'
import { Client } from 'pg'
import t from 'tap'
import { WebSocket, WebSocketServer } from 'ws'
import type { Tenant } from '../registry/tenant.ts'
import { writeStatus } from '../registry/tenant-write.ts'
import { type RunningGateway, startGateway, startUpstream, startWorld, until } from './test-kit.ts'

/** From the moment on that the Registry has acknowledged the change. */
const REACHED_WITHIN_MS = 1000

t.test('what is open of a tenant ends with it on every gateway, however it ends', async t => {
  const world = await startWorld()
  const upstream = await startUpstream()
  const sockets = new WebSocketServer({ server: upstream.server })
  const registry = new Client(world.registryUrl)
  await registry.connect()
  const gateways: RunningGateway[] = []
  t.teardown(async () => {
    for (const gateway of gateways) gateway.child.kill('SIGKILL')
    for (const socket of sockets.clients) socket.terminate()
    upstream.close()
    await registry.end()
    await world.close()
  })
  const start = async () => {
    gateways.push(await startGateway({ ...world.env, APP_UPSTREAMS: upstream.origin }))
  }
  await Promise.all([start(), start()])
  upstream.respond = (req, res) => {
    if (!req.url?.startsWith('/api/events')) return void res.end('{}')
    res.writeHead(200, { 'content-type': 'text/event-stream' })
    res.write('event: ready\n\n')
  }

  const openSocket = async (gateway: RunningGateway, tenant: Tenant) => {
    const socket = new WebSocket(`${gateway.url.replace('http', 'ws')}/api/ws`, {
      headers: { authorization: `Bearer ${world.token(tenant)}` },
    })
    socket.on('error', () => {})
    await once(socket, 'open')
    return {
      ended: once(socket, 'close'),
      isOpen: () => socket.readyState === WebSocket.OPEN,
      close: () => socket.terminate(),
    }
  }
  const openStream = async (gateway: RunningGateway, tenant: Tenant) => {
    const leaving = new AbortController()
    const response = await fetch(`${gateway.url}/api/events`, {
      headers: { authorization: `Bearer ${world.token(tenant)}` },
      signal: leaving.signal,
    })
    const reader = (response.body as ReadableStream<Uint8Array>).getReader()
    t.match(Buffer.from((await reader.read()).value ?? []).toString(), 'event: ready')
    let isOpen = true
    const ended = reader.read().then(
      () => t.fail('a clean end, as if the app had ended it'),
      () => {},
    )
    void ended.then(() => {
      isOpen = false
    })
    return { ended, isOpen: () => isOpen, close: () => leaving.abort() }
  }
  const openAll = async (tenant: Tenant) =>
    (
      await Promise.all(
        gateways.map(gateway =>
          Promise.all([openSocket(gateway, tenant), openStream(gateway, tenant)]),
        ),
      )
    ).flat()
  const statusOf = async (gateway: RunningGateway, tenant: Tenant) => {
    const headers = { authorization: `Bearer ${world.token(tenant)}` }
    const response = await fetch(`${gateway.url}/api/x`, { headers })
    await response.body?.cancel()
    return response.status
  }

  const setStatus = (status: 'suspended' | 'maintenance' | 'archived') => (tenant: Tenant) =>
    writeStatus(world.store, tenant.id, status, 'test')
  const bySql = (text: string) => (tenant: Tenant) => registry.query(text, [tenant.id])
  const ends: Record<string, readonly [end: (tenant: Tenant) => Promise<unknown>, status: number]> =
    {
      suspended: [setStatus('suspended'), 403],
      maintained: [setStatus('maintenance'), 503],
      archived: [setStatus('archived'), 401],
      deleted: [bySql('DELETE FROM tenants WHERE id = $1'), 401],
      'given-another-id': [bySql('UPDATE tenants SET id = gen_random_uuid() WHERE id = $1'), 401],
      'no-longer-fit': [
        bySql(`UPDATE tenants SET status = 'archived', db_host = '' WHERE id = $1`),
        503,
      ],
    }
  const spared = await openAll(await world.createTenant('spared'))
  for (const [name, [end, status]] of Object.entries(ends)) {
    const tenant = await world.createTenant(name)
    const doomed = await openAll(tenant)
    await end(tenant)
    const acknowledgedAt = performance.now()
    await until(() => doomed.every(one => !one.isOpen()), 2 * REACHED_WITHIN_MS).catch(() => {})
    const tookMs = performance.now() - acknowledgedAt
    t.ok(tookMs < REACHED_WITHIN_MS, `${name}: all was cut after ${Math.round(tookMs)} ms`)
    for (const gateway of gateways) t.equal(await statusOf(gateway, tenant), status, name)
    for (const one of doomed) one.close()
  }
  t.ok(
    spared.every(one => one.isOpen()),
    'nothing of another tenant was cut',
  )
  for (const one of spared) one.close()
  await until(async () => {
    const texts = await Promise.all(
      gateways.map(async ({ internalUrl }) => (await fetch(`${internalUrl}/metrics`)).text()),
    )
    return texts.every(text => /^doorman_open_sockets 0$/m.test(text))
  })
})
