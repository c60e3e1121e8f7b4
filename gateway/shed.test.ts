import { Agent, get as httpGet, request as httpRequest } from 'node:http'
import { setTimeout as delay } from 'node:timers/promises'
import t from 'tap'
import type { Tenant } from '../registry/tenant.ts'
import { makeToken, startGateway, startUpstream, startWorld, until } from './test-kit.ts'

/**
 * The process is stopped for most of the time, in turns. A look comes where it goes on, and the next one is due 50 ms later: both
 * times together less 50 ms is how late that is.
 */
const PAUSE_MS = 150
const RUN_MS = 10
const LOOP_DELAY_MS = '40'
const QUIET = 4
/** Far above what the flood is: it stays within its limits. */
const LIMITS = '{"requests_per_s":100000,"burst":100000}'
const DEADLINE_MS = 20_000

t.test('who is shed where not all can be served', async t => {
  const world = await startWorld()
  const upstream = await startUpstream()
  const noisy = await world.createTenant('noisy')
  const quiet: Tenant[] = []
  for (let i = 0; i < QUIET; i++) quiet.push(await world.createTenant(`quiet-${i}`))
  t.teardown(async () => {
    upstream.close()
    await world.close()
  })
  t.beforeEach(() => {
    upstream.respond = (req, res) => void req.resume().on('end', () => res.end('{}'))
  })

  const start = async (env: Record<string, string>) => {
    const shared = { ...world.env, APP_UPSTREAMS: upstream.origin, TENANT_LIMITS: LIMITS }
    const gateway = await startGateway({ ...shared, ...env })
    t.teardown(() => gateway.stop('SIGKILL'))
    const agent = new Agent({ keepAlive: true })
    t.teardown(() => agent.destroy())
    const call = (authorization: string, path = '/api/x') =>
      new Promise<number>((resolve, reject) => {
        httpGet(`${gateway.url}${path}`, { agent, headers: { authorization } }, res => {
          res.resume().on('end', () => resolve(res.statusCode ?? 0))
        }).on('error', reject)
      })
    const figure = async (labels: string) => {
      const text = await (await fetch(`${gateway.internalUrl}/metrics`)).text()
      const name = `doorman_shed_requests_total{${labels}} `
      return Number(
        text
          .split('\n')
          .find(line => line.startsWith(name))
          ?.slice(name.length),
      )
    }
    return { gateway, call, figure }
  }
  /** Twice, for a token is remembered from then on. */
  const signIn = async (call: (authorization: string) => Promise<number>, tenant: Tenant) => {
    const authorization = `Bearer ${world.token(tenant)}`
    for (let i = 0; i < 2; i++) await until(async () => (await call(authorization)) === 200)
    return authorization
  }
  /** Sends on `lanes` connections, each as soon as it has its answer, until told to end. */
  const flood = (lanes: number, send: () => Promise<number>) => {
    let isOver = false
    const statuses = new Map<number, number>()
    const lane = async () => {
      while (!isOver) {
        const status = await send()
        statuses.set(status, (statuses.get(status) ?? 0) + 1)
      }
    }
    const all = Promise.all(Array.from({ length: lanes }, lane))
    return {
      count: (status: number) => statuses.get(status) ?? 0,
      end: () => {
        isOver = true
        return all
      },
    }
  }
  /** Makes the process's event loop late until `isDone`. */
  const holdUp = async (pid: number, isDone: () => boolean) => {
    const deadline = performance.now() + DEADLINE_MS
    try {
      while (!isDone() && performance.now() < deadline) {
        process.kill(pid, 'SIGSTOP')
        await delay(PAUSE_MS)
        process.kill(pid, 'SIGCONT')
        await delay(RUN_MS)
      }
    } finally {
      process.kill(pid, 'SIGCONT')
    }
  }

  t.test('of a loop that is late the flood of one tenant pays, and no quiet one', async t => {
    const { gateway, call, figure } = await start({ OVERLOAD_LOOP_DELAY_MS: LOOP_DELAY_MS })
    const loud = await signIn(call, noisy)
    const calm: string[] = []
    for (const tenant of quiet) calm.push(await signIn(call, tenant))
    const noise = flood(40, () => call(loud))
    const others = calm.map(authorization =>
      flood(1, async () => {
        await delay(20)
        return call(authorization)
      }),
    )
    await holdUp(gateway.child.pid as number, () => noise.count(503) >= 20)
    await Promise.all([noise.end(), ...others.map(other => other.end())])
    t.ok(noise.count(503) >= 20, `${noise.count(503)} of the flood were refused`)
    t.ok(noise.count(200) > 0, 'and not all')
    for (const other of others) {
      t.ok(other.count(200) > 0)
      t.equal(other.count(503), 0)
    }
    t.equal(await figure('reason="loop",whose="tenant"'), noise.count(503))
    t.equal(await figure('reason="loop",whose="anybody"'), 0)
    const line = gateway.log.find(({ code }) => code === 'OVERLOADED')
    t.match(line, { tenant: 'noisy', reason: /sends more than its share/ })
  })

  t.test(
    'a flood of forged tokens in the name of a tenant is shed before they are checked, and is not that tenant’s',
    async t => {
      const { gateway, call, figure } = await start({ OVERLOAD_LOOP_DELAY_MS: LOOP_DELAY_MS })
      const victim = quiet[0] as Tenant
      const calm = await signIn(call, victim)
      let nonce = 0
      const forge = () => {
        const claims = { tenant_id: victim.id, jti: String(nonce++), exp: Date.now() / 1000 + 900 }
        return `Bearer ${makeToken('not the secret, which nobody knows', claims)}`
      }
      const noise = flood(40, () => call(forge()))
      const other = flood(1, async () => {
        await delay(20)
        return call(calm)
      })
      await holdUp(gateway.child.pid as number, () => noise.count(503) >= 20)
      await Promise.all([noise.end(), other.end()])
      t.ok(noise.count(503) >= 20, `${noise.count(503)} were refused as overload`)
      t.ok(noise.count(401) > 0, 'the others as what they are')
      t.ok(other.count(200) > 0)
      t.equal(other.count(503), 0)
      t.equal(await figure('reason="loop",whose="stranger"'), noise.count(503))
      t.equal(await figure('reason="loop",whose="tenant"'), 0)
    },
  )

  t.test('of IN_FLIGHT_MAX one tenant leaves room, and logins do', async t => {
    const { gateway, call, figure } = await start({
      IN_FLIGHT_MAX: '18',
      LOGIN_FAILURES_PER_ADDRESS_MAX: '0',
      LOGIN_FAILURES_PER_ACCOUNT_MAX: '0',
      LOGIN_FAILURES_MAX: '0',
    })
    const loud = await signIn(call, noisy)
    const calm = await signIn(call, quiet[0] as Tenant)
    const waiting: { end(text: string): void }[] = []
    const hold = () => {
      upstream.respond = (_, res) => void waiting.push(res)
    }
    const release = async (answers: Promise<number>[]) => {
      upstream.respond = (req, res) => void req.resume().on('end', () => res.end('{}'))
      for (const res of waiting.splice(0)) res.end('{}')
      return Promise.all(answers)
    }
    const login = () =>
      new Promise<number>((resolve, reject) => {
        const headers = { 'content-type': 'application/json' }
        const url = `${gateway.url}/api/auth/login`
        httpRequest(url, { method: 'POST', headers, agent: false }, res => {
          res.resume().on('end', () => resolve(res.statusCode ?? 0))
        })
          .on('error', reject)
          .end(JSON.stringify({ tenant_key: 'quiet-0', email: 'a@a.example', password: 'x' }))
      })

    for (const [whose, send] of [
      ['tenant', () => call(loud)],
      ['stranger', login],
    ] as const) {
      hold()
      const held: Promise<number>[] = []
      for (let i = 1; i <= 16; i++) {
        held.push(send())
        await until(() => waiting.length === i)
      }
      t.equal(await send(), 503, `${whose}: eight ninths`)
      t.equal(await figure(`reason="in-flight",whose="${whose}"`), 1)
      for (let i = 17; i <= 18; i++) {
        held.push(call(calm))
        await until(() => waiting.length === i)
      }
      t.equal(await call(calm), 503, 'and then there is no place at all')
      const statuses = await release(held)
      t.strictSame(new Set(statuses), new Set([200]))
      t.equal(await send(), 200, 'served again')
    }
    t.equal(await figure('reason="in-flight",whose="anybody"'), 2)
  })
})
