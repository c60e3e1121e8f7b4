import { randomInt } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import { DEMO_PASSWORD, type DemoTenant } from './demo-tenants.ts'

export interface TrafficOptions {
  /** Of the gateway's public listener. */
  readonly origin: string
  readonly tenants: readonly DemoTenant[]
}

/** Tenants that have users; of more the rest is quiet. */
const TENANTS_MAX = 20
/** Of all tenants together, at the top of their waves. */
const REQUESTS_PER_S_MAX = 12
const TICK_MS = 100
const IN_FLIGHT_MAX = 16
const ANSWER_MS = 5000
/** Tokens of the demo are good for 15 minutes. */
const LOGIN_EVERY_MS = 600_000
const RETRY_MS = 5000
/** Load of a tenant rises and falls, each at a pace of its own. */
const WAVE_MS = 90_000

/** What a user of the demo asks for, and how often. */
const REQUESTS = [
  { share: 50, method: 'GET', path: '/api/projects' },
  { share: 25, method: 'GET', path: '/api/auth/profile' },
  { share: 12, method: 'GET', path: '/api/files/report.txt' },
  { share: 6, method: 'PUT', path: '/api/files/report.txt' },
  // Users mistype, too.
  { share: 7, method: 'GET', path: '/api/projects/0' },
] as const
const SHARES = REQUESTS.reduce((sum, { share }) => sum + share, 0)

/**
 * Users of the demo tenants, over HTTP like any client, so that the console has something to show. Few requests:
 * the charts are to move, not the fans.
 *
 * @returns what stops it, and waits for the requests under way
 */
export function startTraffic({ origin, tenants }: TrafficOptions): () => Promise<void> {
  const ended = new AbortController()
  const users = tenants.slice(0, TENANTS_MAX).map((tenant, i) => ({
    tenant,
    // The first are the busiest, as tenants are.
    weight: 1 / (i + 1),
    phase: i * 1.7,
    token: '',
    loginAtMs: 0,
  }))
  const weights = users.reduce((sum, { weight }) => sum + weight, 0)
  const inFlight = new Set<Promise<void>>()
  const ask = (work: Promise<void>) => {
    const settled = work
      // The gateway restarts, a tenant is suspended: the demo goes on.
      .catch(() => {})
      .finally(() => inFlight.delete(settled))
    inFlight.add(settled)
  }
  const login = async (user: (typeof users)[number]) => {
    user.loginAtMs = Date.now() + RETRY_MS
    const { key, email } = user.tenant
    const response = await send('POST', '/api/auth/login', {
      'content-type': 'application/json',
      body: JSON.stringify({ tenant_key: key, email, password: DEMO_PASSWORD }),
    })
    const { result } = (await response.json()) as { result: { accessToken?: string } | null }
    if (result?.accessToken === undefined) return
    user.token = result.accessToken
    user.loginAtMs = Date.now() + LOGIN_EVERY_MS
  }
  const send = (
    method: string,
    path: string,
    { body, ...headers }: Readonly<Record<string, string>>,
  ) =>
    fetch(`${origin}${path}`, {
      ...{ method, headers, ...(body !== undefined && { body }) },
      signal: AbortSignal.any([ended.signal, AbortSignal.timeout(ANSWER_MS)]),
    })
  const act = async (user: (typeof users)[number]) => {
    const { method, path } = pick()
    const headers = { authorization: `Bearer ${user.token}` }
    const response = await send(method, path, {
      ...headers,
      ...(method === 'PUT' && { body: 'x'.repeat(randomInt(100, 20_000)) }),
    })
    await response.arrayBuffer()
    // Revoked, or of a database that was made anew.
    if (response.status === 401) user.loginAtMs = Math.min(user.loginAtMs, Date.now() + RETRY_MS)
  }
  const running = (async () => {
    while (!ended.signal.aborted) {
      const nowMs = Date.now()
      for (const user of users) {
        if (inFlight.size >= IN_FLIGHT_MAX) break
        if (nowMs >= user.loginAtMs) ask(login(user))
        const wave = 0.55 + 0.45 * Math.sin((nowMs / WAVE_MS) * 2 * Math.PI + user.phase)
        const perTick = ((REQUESTS_PER_S_MAX * user.weight) / weights) * wave * (TICK_MS / 1000)
        if (user.token !== '' && Math.random() < perTick) ask(act(user))
      }
      await delay(TICK_MS, null, { signal: ended.signal }).catch(() => {})
    }
  })()
  return async () => {
    ended.abort()
    await running
    await Promise.all(inFlight)
  }
}

function pick(): (typeof REQUESTS)[number] {
  let at = randomInt(SHARES)
  for (const request of REQUESTS) {
    at -= request.share
    if (at < 0) return request
  }
  return REQUESTS[0]
}
