import { once } from 'node:events'
import { type AddressInfo, createServer } from 'node:net'
import t from 'tap'
import { freePort } from './lib/child.ts'
import type { Job } from './load/job.ts'
import { SMALL_GET } from './scenarios/scenario.ts'
import { setScene } from './scene.ts'

/** The real load generator against the real upstream, without a proxy. */
const scene = await setScene(10, false, false)
t.teardown(() => scene.stop())

const job = (kind: Job['kind'], rest: Partial<Job> = {}): Job => ({
  kind,
  port: scene.upstreamPort,
  connections: 4,
  seconds: 0.2,
  ratePerS: 0,
  flood: 0,
  traffic: { ...SMALL_GET, tenants: 10, tokens: 20 },
  ...rest,
})

async function run(wanted: Job) {
  await scene.generator.prepare(wanted)
  return scene.generator.go(wanted.seconds)
}

t.test('every kind of load gets all its answers from the upstream', async t => {
  const jobs = [
    job('closed'),
    job('closed', { traffic: { ...job('closed').traffic, path: '/api/100k' } }),
    job('closed', { traffic: { ...job('closed').traffic, method: 'POST', bodyBytes: 65_536 } }),
    job('churn'),
    job('websocket', { traffic: { ...job('closed').traffic, path: '/api/ws' } }),
  ]
  for (const wanted of jobs) {
    const result = await run(wanted)
    const what = `${wanted.kind} ${wanted.traffic.method} ${wanted.traffic.path}`
    t.equal(result.errors, 0, `${what}: ${result.firstError}`)
    t.ok(result.requests > 10, `${what}: ${result.requests} requests`)
    t.ok(result.p50 > 0 && result.p50 <= result.p99 && result.p99 <= result.max, what)
  }
})

t.test('the open loop sends exactly what its rate says', async t => {
  const result = await run(job('open', { ratePerS: 500, seconds: 0.4 }))
  t.equal(result.errors, 0, String(result.firstError))
  t.equal(result.requests, 200)
})

t.test('a slow upstream delays its own requests and not the arrivals after them', async t => {
  const traffic = { ...SMALL_GET, tenants: 10, tokens: 20, path: '/api/slow' }
  const result = await run(job('open', { ratePerS: 200, seconds: 0.3, connections: 64, traffic }))
  t.equal(result.requests, 60)
  t.ok(result.p50 >= 49, `${result.p50} ms`)
})

t.test('latency counts from the intended start: too few connections show as waiting', async t => {
  const traffic = { ...SMALL_GET, tenants: 10, tokens: 20, path: '/api/slow' }
  const result = await run(job('open', { ratePerS: 100, seconds: 0.3, connections: 1, traffic }))
  t.equal(result.requests, 30)
  t.ok(result.max > 1000, `30 answers of 50 ms on one connection: ${result.max} ms`)
})

t.test('idle connections are all answered once and then held', async t => {
  const wanted = job('idle', { connections: 100 })
  const result = await run(wanted)
  t.equal(result.requests, 100)
  t.equal(result.errors, 0)
  await scene.generator.release()
})

t.test('a wrong status is an error and no request', async t => {
  const server = createServer(socket => {
    socket.on('error', () => {})
    socket.on('data', () => socket.write('HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n'))
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => server.close())
  const result = await run(job('closed', { port: (server.address() as AddressInfo).port }))
  t.equal(result.requests, 0)
  t.ok(result.errors > 10)
  t.equal(result.firstError, 'status 503')
})

t.test('nobody listening is told, and the generator goes on', async t => {
  await t.rejects(
    scene.generator.prepare(job('closed', { port: await freePort() })),
    /ECONNREFUSED/,
  )
  t.equal((await run(job('closed'))).errors, 0)
})
