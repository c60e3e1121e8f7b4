import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { Client } from 'pg'
import t from 'tap'
import { WebSocket, WebSocketServer } from 'ws'
import { makeLog } from '../registry/lib/log.ts'
import { revokeSessions, revokeTokens } from '../registry/revocation-rows.ts'
import type { Tenant, TenantId } from '../registry/tenant.ts'
import { writeStatus } from '../registry/tenant-write.ts'
import { OpenSockets } from './open-sockets.ts'
import { Revocations } from './revocation.ts'
import {
  claimsOf,
  makeToken,
  type RunningGateway,
  startGateway,
  startUpstream,
  startWorld,
  until,
} from './test-kit.ts'

/** The bound itself: what is revoked at one gateway is refused at all of them so soon. */
const REVOKED_WITHIN_MS = 1000

t.test('tokens are revoked on all gateways', async t => {
  const world = await startWorld()
  const upstream = await startUpstream()
  const [acme, globex] = [await world.createTenant('acme'), await world.createTenant('globex')]
  const env = { ...world.env, APP_UPSTREAMS: upstream.origin }
  const start = (change = {}) => startGateway({ ...env, ...change })
  const [here, there] = (await Promise.all([start(), start()])) as [RunningGateway, RunningGateway]
  const gateways = [here, there]
  const sockets = new WebSocketServer({ server: upstream.server })
  // On another database than the Registry's, so that it can be shut off.
  const admin = new Client(world.postgres.url('template1'))
  await admin.connect()
  t.teardown(async () => {
    await Promise.all(gateways.map(gateway => gateway.stop('SIGKILL')))
    for (const socket of sockets.clients) socket.terminate()
    upstream.close()
    await admin.end()
    await world.close()
  })
  const answerOk = upstream.respond
  t.beforeEach(() => {
    upstream.requests.length = 0
    upstream.respond = answerOk
  })

  const call = (gateway: RunningGateway, token: string, path = '/api/x', init: RequestInit = {}) =>
    fetch(`${gateway.url}${path}`, { ...init, headers: { authorization: `Bearer ${token}` } })
  const statusOf = async (gateway: RunningGateway, token: string, path?: string) => {
    const response = await call(gateway, token, path)
    await response.body?.cancel()
    return response.status
  }
  /** Is served everywhere, and so often that its verdict is in the cache. */
  const warm = async (token: string) => {
    for (const gateway of [...gateways, ...gateways, ...gateways]) {
      const status = await statusOf(gateway, token)
      if (status !== 200) throw new Error(`served with ${status}`)
    }
  }
  const refusedEverywhere = (token: string) =>
    until(async () => {
      const answers = await Promise.all(gateways.map(gateway => statusOf(gateway, token)))
      return answers.every(status => status === 401)
    }, REVOKED_WITHIN_MS)
  const refresh = (gateway: RunningGateway, tenant: Tenant, claims = {}) => {
    const secret = world.env.JWT_SECRET_REFRESH_TOKEN as string
    const refreshToken = makeToken(secret, { ...claimsOf(tenant), type: 'refresh', ...claims })
    return fetch(`${gateway.url}/api/auth/refresh-token`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ refreshToken }),
    })
  }
  const open = (gateway: RunningGateway, token: string) => {
    const url = `${gateway.url.replace('http', 'ws')}/api/ws`
    const socket = new WebSocket(url, { headers: { authorization: `Bearer ${token}` } })
    socket.on('error', () => {})
    return socket
  }
  const figure = async ({ internalUrl }: RunningGateway, name: string) => {
    const text = await (await fetch(`${internalUrl}/metrics`)).text()
    return Number(new RegExp(`^${name} (\\d+)`, 'm').exec(text)?.[1])
  }
  const inRegistry = async (sql: string, values: unknown[] = []) => {
    const client = new Client(world.registryUrl)
    await client.connect()
    const { rows } = await client.query(sql, values)
    await client.end()
    return rows
  }

  t.test('a logout at one gateway is a refusal at the other within a second', async t => {
    for (const method of ['GET', 'POST']) {
      const token = world.token(acme)
      const others = [world.token(acme), world.token(globex)]
      await Promise.all([token, ...others].map(warm))
      const logout = await call(here, token, '/api/auth/logout', { method })
      t.equal(logout.status, 200)
      t.equal(await logout.text(), '{}', 'the answer of the app')
      t.equal(await statusOf(here, token), 401, 'at once where it was')
      await refusedEverywhere(token)
      const answer = (await (await call(there, token)).json()) as Record<string, unknown>
      t.match(answer, { status: false, code: 'TOKEN_INVALID' }, 'told like any bad token')
      for (const other of others) await warm(other)
    }
  })

  t.test('a client that leaves before its logout is answered is signed out', async t => {
    const token = world.token(acme)
    await warm(token)
    upstream.respond = (req, res) => {
      if (req.url !== '/api/auth/logout') answerOk(req, res)
    }
    const seen = upstream.requests.length
    const leaving = new AbortController()
    const logout = call(here, token, '/api/auth/logout', { signal: leaving.signal })
    await until(() => upstream.requests.length > seen)
    t.equal(await statusOf(there, token), 200, 'nothing is said of it yet')
    leaving.abort()
    await t.rejects(logout)
    await refusedEverywhere(token)
  })

  t.test('the same jti in two tenants is two tokens', async () => {
    const jti = 'the-same-jti'
    const [token, namesake] = [world.token(acme, { jti }), world.token(globex, { jti })]
    await Promise.all([warm(token), warm(namesake)])
    await statusOf(here, token, '/api/auth/logout')
    await refusedEverywhere(token)
    await warm(namesake)
  })

  t.test('a token without jti is revoked alone', async t => {
    const token = world.token(acme, { jti: undefined, type: undefined })
    const twin = world.token(acme, { jti: undefined, type: undefined, email: 'another' })
    await Promise.all([warm(token), warm(twin)])
    t.equal(await statusOf(there, token, '/api/auth/logout'), 200)
    await refusedEverywhere(token)
    await warm(twin)
    const rows = await inRegistry('SELECT token_id, expires_at FROM revoked_tokens')
    t.ok(rows.some(({ token_id: id }) => id.startsWith('sha256:')))
    const [, payload = '', signature = ''] = token.split('.')
    t.notMatch(JSON.stringify(rows), payload, 'the Registry does not hold the token')
    t.notMatch(JSON.stringify(rows), signature)
  })

  t.test('a logout that the app refuses revokes nothing; a redirect is none', async t => {
    const token = world.token(acme)
    for (const status of [400, 401, 500]) {
      upstream.respond = (_, res) => res.writeHead(status).end('no')
      const refused = await call(here, token, '/api/auth/logout')
      t.equal(refused.status, status)
      t.equal(await refused.text(), 'no')
    }
    upstream.respond = answerOk
    await warm(token)
    upstream.respond = (_, res) => res.writeHead(302, { location: '/signed-out' }).end()
    const redirected = await call(here, token, '/api/auth/logout', { redirect: 'manual' })
    t.equal(redirected.status, 302)
    t.equal(redirected.headers.get('location'), '/signed-out')
    upstream.respond = answerOk
    await refusedEverywhere(token)
  })

  t.test('a long answer to a logout arrives whole', async t => {
    const body = Buffer.alloc(3 * 1024 * 1024, 'long ')
    upstream.respond = (_, res) => {
      res.write(body.subarray(0, 100))
      setImmediate(() => res.end(body.subarray(100)))
    }
    const answer = await call(here, world.token(acme), '/api/auth/logout')
    t.ok(Buffer.from(await answer.arrayBuffer()).equals(body))
  })

  t.test('the sockets of a revoked token are cut within a second, and no others', async t => {
    const token = world.token(acme)
    const spared = open(there, world.token(acme))
    const doomed = gateways.map(gateway => open(gateway, token))
    await Promise.all([spared, ...doomed].map(socket => once(socket, 'open')))
    const closed = doomed.map(socket => once(socket, 'close'))
    const startedAt = performance.now()
    await statusOf(here, token, '/api/auth/logout')
    await Promise.all(closed)
    t.ok(performance.now() - startedAt < REVOKED_WITHIN_MS)
    t.equal(spared.readyState, WebSocket.OPEN)
    spared.terminate()
  })

  t.test(
    'an event stream is cut when its token, its session or its tenant ends, and no other is',
    async t => {
      upstream.respond = (_, res) => {
        res.writeHead(200, { 'content-type': 'text/event-stream; charset=utf-8' })
        res.write('event: ready\n\n')
      }
      const [hooli, pied] = [await world.createTenant('hooli'), await world.createTenant('pied')]
      const nowS = Math.floor(Date.now() / 1000)
      const iat = nowS - 1
      const revoked = world.token(hooli, { iat })
      const streamOf = async (token: string) => {
        const response = await call(there, token, '/api/events')
        const reader = (response.body as ReadableStream<Uint8Array>).getReader()
        t.match(Buffer.from((await reader.read()).value ?? []).toString(), 'event: ready')
        let isOpen = true
        const ended = reader.read().then(
          () => 'a clean end',
          () => 'an abort',
        )
        void ended.then(() => {
          isOpen = false
        })
        return { ended, isOpen: () => isOpen, cancel: () => reader.cancel().catch(() => {}) }
      }
      const spared = await streamOf(world.token(acme, { iat: nowS + 20 }))
      const doomed = await streamOf(revoked)
      const sibling = await streamOf(world.token(hooli, { iat }))
      const suspended = await streamOf(world.token(pied))
      const { respond } = upstream
      upstream.respond = answerOk
      t.equal(await statusOf(here, revoked, '/api/auth/logout'), 200)
      t.equal(await doomed.ended, 'an abort')
      t.equal(sibling.isOpen(), true)
      await revokeSessions(world.store, hooli.id)
      t.equal(await sibling.ended, 'an abort')
      await writeStatus(world.store, pied.id, 'suspended', 'test')
      t.equal(await suspended.ended, 'an abort')
      t.equal(spared.isOpen(), true)
      await spared.cancel()
      // While the app takes its time to answer.
      const gavin = await world.createTenant('gavin')
      const late = world.token(acme, { iat: nowS + 20 })
      const tokenId = claimOf(late, 'jti')
      const ends: [string, () => Promise<unknown>][] = [
        [
          late,
          () => {
            const expiresAtS = Date.now() / 1000 + 900
            return revokeTokens(world.store, [{ tenantId: acme.id, tokenId, expiresAtS }])
          },
        ],
        [world.token(gavin), () => writeStatus(world.store, gavin.id, 'suspended', 'test')],
      ]
      for (const [token, end] of ends) {
        upstream.respond = (req, res) => {
          if (req.url !== '/api/events') return answerOk(req, res)
          void end()
            .then(() => until(async () => (await statusOf(there, token)) !== 200))
            .then(() => respond(req, res))
        }
        const opened = await call(there, token, '/api/events')
        const startedAt = performance.now()
        await t.rejects(opened.text())
        t.ok(performance.now() - startedAt < REVOKED_WITHIN_MS, 'and not by the poll')
      }
      await until(async () => (await figure(there, 'doorman_open_sockets')) === 0)
      await until(async () => (await figure(there, 'doorman_requests_in_flight')) === 0)
    },
  )

  t.test(
    'a token that was revoked before a gateway started is refused from the first request',
    async t => {
      const token = world.token(acme)
      await revokeTokens(world.store, [
        { tenantId: acme.id, tokenId: claimOf(token, 'jti'), expiresAtS: Date.now() / 1000 + 900 },
      ])
      const restarted = await start()
      gateways.push(restarted)
      t.equal(await statusOf(restarted, token), 401)
      t.equal(await statusOf(restarted, world.token(acme)), 200)
    },
  )

  t.test('what is revoked while the listeners are cut is learnt after they are back', async () => {
    const token = world.token(acme)
    await warm(token)
    await admin.query(
      `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'doorman-watch'`,
    )
    await revokeTokens(world.store, [
      { tenantId: acme.id, tokenId: claimOf(token, 'jti'), expiresAtS: Date.now() / 1000 + 900 },
    ])
    await until(async () => {
      const answers = await Promise.all(gateways.map(gateway => statusOf(gateway, token)))
      return answers.every(status => status === 401)
    })
    await until(async () => {
      const figures = await Promise.all(
        gateways.map(async ({ internalUrl }) => (await fetch(`${internalUrl}/metrics`)).text()),
      )
      return figures.every(text => /^doorman_registry_listener_healthy 1$/m.test(text))
    })
  })

  t.test(
    'everyone is signed out: access tokens, refresh tokens, sockets, and what is rotated meanwhile',
    async t => {
      const nowS = Math.floor(Date.now() / 1000)
      const token = world.token(acme, { iat: nowS - 1 })
      const untouched = world.token(globex, { iat: nowS - 1 })
      await Promise.all([warm(token), warm(untouched)])
      const socket = open(there, token)
      await once(socket, 'open')
      const closed = once(socket, 'close')
      await revokeSessions(world.store, acme.id)
      await refusedEverywhere(token)
      await closed
      upstream.requests.length = 0
      for (const gateway of gateways) {
        t.equal((await refresh(gateway, acme, { iat: nowS - 1 })).status, 401)
        t.equal((await refresh(gateway, acme, { iat: nowS + 20, orig_iat: nowS - 1 })).status, 401)
        const rotated = world.token(acme, { iat: nowS + 20, orig_iat: nowS - 1 })
        t.equal(await statusOf(gateway, rotated), 401, 'rotated at that very moment')
      }
      t.equal(upstream.requests.length, 0, 'the app sees none of it')
      await warm(untouched)
      // Who signs in now is in from the next second on: iat counts whole ones.
      await until(async () => (await statusOf(there, world.token(acme))) === 200, 2000)
      t.equal((await refresh(there, acme)).status, 200)
    },
  )

  t.test(
    'a logout while the Registry is down succeeds, holds here at once, and everywhere later',
    async t => {
      const token = world.token(acme)
      const other = world.token(acme)
      await Promise.all([warm(token), warm(other)])
      await admin.query('ALTER DATABASE postgres ALLOW_CONNECTIONS false')
      await admin.query(
        `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'postgres'`,
      )
      const logout = await call(here, token, '/api/auth/logout')
      t.equal(logout.status, 200)
      t.equal(await statusOf(here, token), 401)
      t.equal(await statusOf(here, other), 200, 'the tenant is served')
      t.equal(await statusOf(there, token), 200, 'nobody can have told it')
      const unwritten = () => figure(here, 'doorman_revocations_unwritten')
      t.equal(await unwritten(), 1)
      await admin.query('ALTER DATABASE postgres ALLOW_CONNECTIONS true')
      await until(async () => (await statusOf(there, token)) === 401)
      await until(async () => (await unwritten()) === 0)
      t.equal(await statusOf(there, other), 200)
    },
  )

  t.test('a client that leaves in the midst of its logout is signed out all the same', async () => {
    const token = world.token(acme)
    await warm(token)
    const leaving = new AbortController()
    upstream.respond = (_, res) => {
      res.writeHead(200, { 'content-length': '2' })
      res.write('a', () => leaving.abort())
    }
    const left = call(here, token, '/api/auth/logout', { signal: leaving.signal })
    await left.then(response => response.text()).catch(() => {})
    upstream.respond = answerOk
    await refusedEverywhere(token)
  })
})

t.test(
  'a flood cuts the sockets of the tokens that are refused with it, and no others',
  async t => {
    const [flooded, other] = [randomUUID(), randomUUID()] as string[] as [TenantId, TenantId]
    const sockets = new OpenSockets()
    const revocations = new Revocations({
      store: { query: async () => [] },
      sockets,
      log: makeLog('test', 'silent'),
      entriesMax: 1000,
    })
    t.teardown(async () => {
      await revocations.close()
      sockets.close()
    })
    const nowS = Date.now() / 1000
    const cut: string[] = []
    const open = (name: string, tenant: TenantId, expiresAtS: number) => {
      const token = { tokenId: name, issuedAtS: nowS - 60, expiresAtS, issuer: null }
      const onCut = () => {
        cut.push(name)
        forget()
      }
      const forget = sockets.add(tenant, token, onCut, () => {})
    }
    const learn = (tenantId: TenantId, from: number, to: number) => {
      for (let i = from; i < to; i++) {
        revocations.learn({ tenantId, tokenId: `x${i}`, expiresAtS: nowS + 200 + (i % 100) })
      }
    }
    learn(flooded, 0, 990)
    open('short', flooded, nowS + 100)
    open('long', flooded, nowS + 3600)
    open('elsewhere', other, nowS + 100)
    // It is another tenant's token that makes the flooded one's give way.
    learn(randomUUID() as string as TenantId, 990, 1010)
    await until(() => cut.length > 0)
    t.strictSame(cut, ['short'])
    t.equal(sockets.count, 2)
  },
)

function claimOf(token: string, claim: string): string {
  const payload = Buffer.from(token.split('.')[1] as string, 'base64url').toString('utf8')
  return String((JSON.parse(payload) as Record<string, unknown>)[claim])
}
