import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import t from 'tap'
import { makeLog } from '../../registry/lib/log.ts'
import { Http1UpstreamClient } from '../http1/upstream-client.ts'
import { until } from '../test-kit.ts'
import { ActiveChecks } from './active-checks.ts'
import { makeReplica, type Replica } from './replica.ts'

t.test(
  'a replica is left when it says so or is silent, and taken back when it is ready',
  async t => {
    let answer: 200 | 503 | 'silence' = 200
    const asked: string[] = []
    const server = createServer((req, res) => {
      asked.push(`${req.method} ${req.url}`)
      if (answer !== 'silence') res.writeHead(answer).end('{}')
    })
    server.listen(0, '127.0.0.1')
    await once(server, 'listening')
    const { port } = server.address() as AddressInfo
    const replica = makeReplica(`http://127.0.0.1:${port}`)
    const client = new Http1UpstreamClient({
      timeouts: { connectMs: 300, headMs: 300, bodyIdleMs: 300, idleMs: 1000 },
      limits: { connectionsMax: 1 },
    })
    const changes: boolean[] = []
    const checks = new ActiveChecks({
      replicas: () => [replica],
      client,
      path: '/readyz',
      intervalMs: 20,
      onChange: (changed: Replica) => changes.push(changed.isReady),
      log: makeLog('test', 'silent'),
    })
    checks.start()
    t.teardown(async () => {
      checks.stop()
      server.closeAllConnections()
      server.close()
      await client.close()
    })

    await until(() => asked.length >= 3)
    t.strictSame(new Set(asked), new Set(['GET /readyz']))
    t.strictSame(changes, [])
    answer = 503
    await until(() => !replica.isReady)
    answer = 200
    await until(() => replica.isReady)
    t.type(replica.joinedAtMs, 'number', 'tenants come back slowly')
    answer = 'silence'
    await until(() => !replica.isReady)
    t.ok(replica.failedChecks >= 2, 'one lost answer is not enough')
    answer = 200
    server.closeAllConnections()
    await until(() => replica.isReady)
    server.closeAllConnections()
    server.close()
    await until(() => !replica.isReady)
    t.strictSame(changes, [false, true, false, true, false])
  },
)
