import { createHmac } from 'node:crypto'
import { Agent, request } from 'node:http'
import { makeToken } from './lib/tokens.ts'
import type { World } from './load/job.ts'
import { renderBody, renderLoginBody } from './load/requests.ts'
import type { Peer } from './peers/peer.ts'
import type { Scenario } from './scenarios/scenario.ts'

const DEADLINE_MS = 5_000
const UPGRADE = {
  connection: 'Upgrade',
  upgrade: 'websocket',
  'sec-websocket-version': '13',
  'sec-websocket-key': 'dGhlIHNhbXBsZSBub25jZQ==',
}

/**
 * Before anything is timed: the proxy gives the upstream's own answer, byte by byte; where it claims to
 * do the whole job, exactly one context of its own reaches the upstream and bad tokens are refused.
 *
 * @throws Error that says what is wrong
 */
export async function checkPeer(
  peer: Peer,
  port: number,
  upstreamPort: number,
  scenario: Scenario,
  world: World,
): Promise<void> {
  const { traffic } = scenario
  const tenant = world.tenants[0]
  if (tenant === undefined) throw new Error('no tenant')
  const nowS = Math.floor(Date.now() / 1000)
  const token = makeToken(world.jwtSecret, tenant.id, 0, nowS)
  if (scenario.kind !== 'websocket') {
    const body = traffic.isLogin ? renderLoginBody(tenant.key, 0) : renderBody(traffic.bodyBytes)
    const ask = (at: number) =>
      send(at, traffic.method, traffic.path, traffic.isLogin ? {} : bearer(token), body)
    const [through, straight] = [await ask(port), await ask(upstreamPort)]
    expect(through.status === 200, `${traffic.method} ${traffic.path} answered ${through.status}`)
    expect(through.body.equals(straight.body), 'the answer is not that of the upstream')
    expect(through.body.length >= scenario.answerBytesMin, 'the answer is too short')
  }
  if (!peer.isFullJob) return
  await checkContext(port, token)
  await checkRefusals(port, token, world, tenant.id, nowS)
  if (traffic.isLogin) {
    const { status } = await send(port, 'POST', traffic.path, {}, renderLoginBody('nobody', 0))
    expect(isRefusal(status), `a login at an unknown tenant was answered ${status}`)
  }
  if (scenario.kind === 'websocket') {
    const foreign = bearer(makeToken('x'.repeat(48), tenant.id, 0, nowS))
    const { status } = await send(port, 'GET', traffic.path, { ...foreign, ...UPGRADE }, '')
    expect(isRefusal(status), `an upgrade with a token of another key was answered ${status}`)
  }
}

/** Forged copies, also by the Connection header and in other case, and what arrives of them. */
async function checkContext(port: number, token: string): Promise<void> {
  const forged = {
    'X-Tenant-Context': 'forged',
    'x-tenant-request': 'forged',
    'X-TENANT-KEY': 'forged',
  }
  const answer = await send(port, 'GET', '/api/inspect', { ...bearer(token), ...forged }, '')
  expect(answer.status === 200, `GET /api/inspect answered ${answer.status}`)
  const lines = JSON.parse(answer.body.toString('utf8')) as string[]
  const named = (name: string) => lines.filter(line => line.toLowerCase().startsWith(`${name}:`))
  for (const name of ['x-tenant-context', 'x-tenant-request', 'x-request-id']) {
    expect(named(name).length === 1, `${named(name).length} × ${name} reached the upstream`)
  }
  expect(!lines.some(line => line.includes('forged')), 'a forged header reached the upstream')
  const contextChars = (named('x-tenant-context')[0] ?? '').length
  expect(contextChars > 500, `a context of ${contextChars} characters`)
}

async function checkRefusals(
  port: number,
  token: string,
  world: World,
  tenantId: string,
  nowS: number,
): Promise<void> {
  const bad = {
    'no token': {},
    'a token with another signature': bearer(`${token.slice(0, -4)}AAAA`),
    'a token of another key': bearer(makeToken('x'.repeat(48), tenantId, 0, nowS)),
    'an expired token': bearer(makeToken(world.jwtSecret, tenantId, 0, nowS - 30 * 24 * 3600)),
    'a token without signature': bearer(unsigned(token)),
    'a token of an unknown tenant': bearer(
      makeToken(world.jwtSecret, '00000000-0000-4000-8000-000000000000', 0, nowS),
    ),
  }
  for (const [what, headers] of Object.entries(bad)) {
    const { status } = await send(port, 'GET', '/api/small', headers, '')
    expect(isRefusal(status), `${what} was answered ${status}`)
  }
}

function isRefusal(status: number): boolean {
  return status === 401 || status === 403
}

function unsigned(token: string): string {
  const header = Buffer.from(JSON.stringify({ alg: 'none', typ: 'JWT' })).toString('base64url')
  const signed = `${header}.${token.split('.')[1]}`
  return `${signed}.${createHmac('sha256', '').update(signed).digest('base64url')}`
}

function bearer(token: string): Record<string, string> {
  return { authorization: `Bearer ${token}` }
}

interface Answer {
  readonly status: number
  readonly body: Buffer
}

function send(
  port: number,
  method: string,
  path: string,
  headers: Record<string, string>,
  body: string,
): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const framing =
      body === '' ? {} : { 'content-type': 'application/json', 'content-length': body.length }
    const outgoing = request(
      {
        host: '127.0.0.1',
        port,
        method,
        path,
        headers: { ...headers, ...framing },
        agent: new Agent(),
      },
      answer => {
        const chunks: Buffer[] = []
        answer.on('data', chunk => chunks.push(chunk))
        answer.on('error', reject)
        answer.on('end', () =>
          resolve({
            status: answer.statusCode ?? 0,
            body: Buffer.concat(chunks),
          }),
        )
      },
    )
    outgoing.setTimeout(DEADLINE_MS, () => outgoing.destroy(new Error(`no answer to ${path}`)))
    outgoing.on('error', reject)
    outgoing.on('upgrade', (_answer, socket) => {
      socket.destroy()
      reject(new Error(`${path} was upgraded`))
    })
    outgoing.end(body)
  })
}

function expect(holds: boolean, message: string): void {
  if (!holds) throw new Error(message)
}
