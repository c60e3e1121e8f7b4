import { generateKeyPairSync, randomBytes, randomUUID } from 'node:crypto'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import type { JWK } from 'jose'
import {
  CONTEXT_HEADER,
  encodePrincipal,
  makeContextMinter,
  makeContextVerifier,
  REQUEST_HEADER,
  signRequest,
  verifyRequest,
} from '../../registry/context.ts'
import type { Tenant, TenantId, TenantKey } from '../../registry/tenant.ts'
import { makeGate } from './gate.ts'
import { makeReplayGuard } from './replay-guard.ts'

/*
 * What it costs to bind a request to its context: `npm run bench -- binding` runs this file in a process of
 * its own. The gateway's side is the request header made by `signRequest`, the app's is `admit` of a
 * request whose context it knows. Prints one line of JSON: of each step the microseconds per request and the bytes
 * that the guard keeps for an id.
 *
 * Rounds are short, so that a request's strings are as fresh as in a server, and so that what else runs on
 * the machine falls into few of them: the median leaves it out, and garbage collections too; the mean has both.
 */
const ROUNDS = 3000
const REQUESTS = 50
const USERS = 200
/** The clock that is passed in: at this pace ids leave the guard in most of the rounds. */
const REQUESTS_PER_MS = 5
const IDS_MEASURED = 500_000
const TARGET = '/api/projects?limit=20&offset=40'

const startMs = Date.now()
const tenant = {
  id: randomUUID() as TenantId,
  key: 'acme' as TenantKey,
  mode: 'shared',
  configVersion: 1,
} as Tenant
const { privateKey, publicKey } = generateKeyPairSync('ed25519')
const contentKey = randomBytes(32).toString('base64url')
const minter = await makeContextMinter(privateKey.export({ format: 'jwk' }) as JWK, [contentKey])
const keys = { keys: [publicKey.export({ format: 'jwk' }) as JWK] }
const verifier = await makeContextVerifier(keys, [contentKey])
const db = { host: 'db-7.internal', port: 5432, name: 'acme', user: 'acme', ssl: null }
const connections = { db: { ...db, password: randomUUID(), pool_max: null }, bucket: null }
const { token, mac } = await minter.mint(tenant, connections, startMs)
const users = Array.from({ length: USERS }, (_, i) =>
  encodePrincipal({
    sub: randomUUID(),
    email: `user${i}@acme.example`,
    role_id: 2,
    jti: randomUUID(),
    exp: Math.floor(startMs / 1000) + 900,
  }),
)
const idsMax = ROUNDS * REQUESTS
const replayGuard = makeReplayGuard(idsMax)
const gate = makeGate({
  verifier,
  replayGuard,
  contextsMax: 8192,
  tracer: null,
  versionsMax: 16_384,
})
const aloneGuard = makeReplayGuard(idsMax)

const taken: Record<string, number[]> = {}
for (let round = 0; round < ROUNDS; round += 1) {
  const ids = Array.from({ length: REQUESTS }, () => fresh(randomUUID()))
  const at = (i: number) => startMs + Math.floor((round * REQUESTS + i) / REQUESTS_PER_MS)
  const user = (i: number) => users[i % USERS] as string
  const headers = ids.map(() => '')
  measure('gateway: the request header, whole', i => {
    headers[i] = signRequest(mac, 'GET', TARGET, user(i), ids[i] as string, at(i))
  })
  measure('gateway: its HMAC', i => mac.tag(`v1\nGET\n${TARGET}\n${user(i)}\n${ids[i]}\n${at(i)}`))
  const requests = headers.map(header => requestOf(header))
  const startedAt = performance.now()
  for (let i = 0; i < REQUESTS; i += 1) {
    await gate.admit(requests[i] as ReturnType<typeof requestOf>, at(i))
  }
  note('app: admit, whole', startedAt)
  measure('app: the tag and the skew, the principal read anew', i =>
    verifyRequest(headers[i] as string, mac, 'GET', TARGET, at(i)),
  )
  measure('app: the replay guard', i => {
    aloneGuard.admit(tenant.id, ids[i] as string, at(i), at(i))
  })
}
const usPerRequest = Object.fromEntries(
  Object.entries(taken).map(([step, values]) => [step, summary(values)]),
)
process.stdout.write(`${JSON.stringify({ usPerRequest, bytesPerId: bytesPerId() })}\n`)

function measure(step: string, work: (i: number) => unknown): void {
  const startedAt = performance.now()
  for (let i = 0; i < REQUESTS; i += 1) work(i)
  note(step, startedAt)
}

function note(step: string, startedAt: number): void {
  const us = ((performance.now() - startedAt) / REQUESTS) * 1000
  taken[step] ??= []
  taken[step].push(us)
}

function summary(values: number[]) {
  const sorted = values.toSorted((a, b) => a - b)
  const mean = values.reduce((sum, value) => sum + value, 0) / values.length
  return { median: sorted[sorted.length >> 1], mean }
}

/** As it comes over the wire: a string of its own, which nobody has hashed yet. */
function fresh(text: string): string {
  return Buffer.from(text, 'latin1').toString('latin1')
}

function requestOf(header: string) {
  const others = {
    host: 'app:3000',
    accept: 'application/json',
    'accept-encoding': 'gzip, br',
    'accept-language': 'en',
    authorization: 'Bearer a.b.c',
    'user-agent': 'Mozilla/5.0',
    'x-forwarded-for': '203.0.113.7',
    'x-forwarded-proto': 'https',
    'x-forwarded-host': 'api.example',
    'x-request-id': 'e9e7f6b2',
    traceparent: '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00',
  }
  const fields = { ...others, [CONTEXT_HEADER]: token, [REQUEST_HEADER]: header }
  return {
    method: 'GET',
    target: TARGET,
    rawHeaders: Object.entries(fields).flatMap(([name, value]) => [fresh(name), fresh(value)]),
  }
}

function bytesPerId(): number {
  setFlagsFromString('--expose-gc')
  const collect = runInNewContext('gc') as () => void
  const guard = makeReplayGuard(IDS_MEASURED)
  collect()
  const before = process.memoryUsage().heapUsed
  for (let i = 0; i < IDS_MEASURED; i += 1) {
    // As it comes: a piece of a header, which must not keep the whole of it in memory.
    const header = Buffer.from(`v1.${users[0]}.${randomUUID()}.${startMs}.tag`).toString('latin1')
    const id = header.split('.')[2] as string
    guard.admit(tenant.id, id, startMs + Math.floor(i / 20), startMs)
  }
  collect()
  // What is read after the collection keeps the guard in use until then.
  return Math.round((process.memoryUsage().heapUsed - before) / guard.size)
}
