import { createSecretKey } from 'node:crypto'
import { seededRandom } from '../lib/random.ts'
import { makeToken } from '../lib/tokens.ts'
import { zipfSampler } from '../lib/zipf.ts'
import type { Traffic, World } from './job.ts'

/** Requests rendered before the clock starts; `next` costs the generator nothing but a look-up. */
export interface Requests {
  next(): Buffer
}

/** Length of the drawn sequence; it repeats after that many requests. */
const ZIPF_DRAWS = 1 << 20

/** @param isLast adds `Connection: close` */
export function renderRequests(traffic: Traffic, world: World, isLast: boolean): Requests {
  const rendered = traffic.isLogin
    ? renderLogins(traffic, world, isLast)
    : renderTokens(traffic, world, isLast)
  const count = rendered.length
  if (traffic.zipf > 0) return drawByZipf(traffic, rendered)
  let position = 0
  return {
    next() {
      const request = rendered[position] as Buffer
      position = position + 1 === count ? 0 : position + 1
      return request
    },
  }
}

/** Head of a WebSocket handshake with a good token. */
export function renderUpgrade(path: string, token: string): Buffer {
  return Buffer.from(
    `GET ${path} HTTP/1.1\r\nHost: api.example.com\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n` +
      `Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n` +
      `Authorization: Bearer ${token}\r\n\r\n`,
    'latin1',
  )
}

/** A login as the API's clients send it. */
export function renderLoginBody(tenantKey: string, user: number): string {
  return JSON.stringify({
    tenant_key: tenantKey,
    email: `user${user}@example.com`,
    password: 'correct horse battery staple',
  })
}

/** A JSON body of exactly `bytes` bytes. */
export function renderBody(bytes: number): string {
  const frame = '{"text":""}'
  return bytes === 0 ? '' : `{"text":"${'x'.repeat(Math.max(0, bytes - frame.length))}"}`
}

function renderTokens(traffic: Traffic, world: World, isLast: boolean): Buffer[] {
  const nowS = Math.floor(Date.now() / 1000)
  const body = renderBody(traffic.bodyBytes)
  // As a KeyObject, for createHmac takes seven times as long with the text.
  const key = createSecretKey(world.jwtSecret, 'utf8')
  return Array.from({ length: traffic.tokens }, (_, user) => {
    const tenant = world.tenants[user % traffic.tenants]
    if (tenant === undefined) throw new Error('fewer tenants than the scenario needs')
    const token = makeToken(key, tenant.id, user, nowS)
    return renderRequest(traffic, `Authorization: Bearer ${token}\r\n`, body, isLast)
  })
}

function renderLogins(traffic: Traffic, world: World, isLast: boolean): Buffer[] {
  return Array.from({ length: traffic.tokens }, (_, user) => {
    const tenant = world.tenants[user % traffic.tenants]
    if (tenant === undefined) throw new Error('fewer tenants than the scenario needs')
    return renderRequest(traffic, '', renderLoginBody(tenant.key, user), isLast)
  })
}

function renderRequest(traffic: Traffic, fields: string, body: string, isLast: boolean): Buffer {
  const framing =
    body === '' ? '' : `Content-Type: application/json\r\nContent-Length: ${body.length}\r\n`
  return Buffer.from(
    `${traffic.method} ${traffic.path} HTTP/1.1\r\nHost: api.example.com\r\n` +
      `User-Agent: doorman-bench\r\nAccept: application/json\r\nAccept-Encoding: gzip, deflate\r\n` +
      `${fields}${framing}${isLast ? 'Connection: close\r\n' : ''}\r\n${body}`,
    'latin1',
  )
}

/** Token `user` belongs to tenant `user % tenants`: a tenant is drawn by Zipf, then one of its users. */
function drawByZipf(traffic: Traffic, rendered: readonly Buffer[]): Requests {
  const random = seededRandom(traffic.tokens)
  const drawTenant = zipfSampler(traffic.tenants, traffic.zipf, random)
  const usersPerTenant = Math.max(1, Math.floor(traffic.tokens / traffic.tenants))
  const order = Uint32Array.from(
    { length: ZIPF_DRAWS },
    () => drawTenant() + traffic.tenants * Math.floor(random() * usersPerTenant),
  )
  let position = 0
  return {
    next() {
      position = (position + 1) & (ZIPF_DRAWS - 1)
      return rendered[order[position] as number] as Buffer
    },
  }
}
