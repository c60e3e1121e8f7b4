import { randomUUID } from 'node:crypto'
import { setTimeout as pause } from 'node:timers/promises'
import { Client } from 'pg'
import t from 'tap'
import { CONTEXT_HEADER, type ContextClaims } from '../registry/context.ts'
import { revokeSessions } from '../registry/revocation-rows.ts'
import type { TenantId, TenantStatus } from '../registry/tenant.ts'
import { writeDb, writeStatus } from '../registry/tenant-write.ts'
import { seeded } from './http1/test-kit.ts'
import {
  claimsOf,
  makeToken,
  type RunningGateway,
  startGateway,
  startUpstream,
  startWorld,
  until,
} from './test-kit.ts'

/**
 * Random changes of tenants against several gateways under load. The changes follow from the seed alone
 * (`DOORMAN_RACE_SEED=<number>`, `DOORMAN_RACE_CHANGES=<number>`); how they meet requests differs from run to run, and what
 * must hold does not: what a gateway serves is a state that the Registry was in within the last second, and in the end all of
 * them know what the Registry knows.
 */
const SEED = Number(process.env.DOORMAN_RACE_SEED ?? 1)
const CHANGES = Number(process.env.DOORMAN_RACE_CHANGES ?? 200)
const GATEWAYS = 4
const CLIENTS = 8
const KEYS = 24
/** The bound that is promised: after an acknowledged change, nothing is served by what was before. */
const KNOWN_WITHIN_MS = 1000

/** What a change made of a tenant. */
interface State {
  readonly startedAtMs: number
  /** Infinity until the Registry has acknowledged it. */
  ackedAtMs: number
  /** null: there is no such tenant. */
  status: TenantStatus | null
  version: number
  tokensValidAfterMs: number
}

interface Subject {
  readonly id: TenantId
  readonly key: string
  readonly states: State[]
}

/** A request as it reached the app. */
interface Served {
  readonly token: string
  readonly atMs: number
  /** Seconds; null at a login. */
  readonly issuedAtS: number | null
}

const random = seeded(SEED)
const below = (n: number) => Math.floor(random() * n)
const pick = <T>(list: readonly T[]) => list[below(list.length)] as T

t.test('four gateways under load follow the Registry through random changes', async t => {
  const world = await startWorld()
  const upstream = await startUpstream()
  const registry = new Client(world.registryUrl)
  await registry.connect()
  const env = {
    ...world.env,
    APP_UPSTREAMS: upstream.origin,
    // Logins of tenants that come and go fail by intent.
    LOGIN_FAILURES_MAX: '0',
    LOGIN_FAILURES_PER_ACCOUNT_MAX: '0',
    LOGIN_FAILURES_PER_ADDRESS_MAX: '0',
    ACCESS_LOG_PERCENT: '0',
  }
  const gateways: RunningGateway[] = []
  t.teardown(async () => {
    for (const gateway of gateways) gateway.child.kill('SIGKILL')
    upstream.close()
    await registry.end()
    await world.close()
  })
  const start = async () => void gateways.push(await startGateway(env))
  await Promise.all(Array.from({ length: GATEWAYS }, start))
  const served: Served[] = []
  upstream.respond = (req, res) => {
    const iat = /[?&]iat=(\d+)/.exec(req.url ?? '')?.[1]
    served.push({
      token: String(req.headers[CONTEXT_HEADER]),
      atMs: performance.now(),
      issuedAtS: iat === undefined ? null : Number(iat),
    })
    req.resume().on('end', () => res.end('{}'))
  }

  const subjects: Subject[] = []
  /** The latest tenant of a key, which may be gone. */
  const byKey = new Map<string, Subject>()
  const names = Array.from({ length: KEYS }, (_, i) => `tenant-${i}`)
  const bornAtS = Math.floor(Date.now() / 1000) - 60

  // ---- requests

  const call = async (gateway: RunningGateway, path: string, init: RequestInit) => {
    const response = await fetch(`${gateway.url}${path}`, init)
    return { status: response.status, text: await response.text() }
  }
  const get = (gateway: RunningGateway, { id }: Subject, iat: number) => {
    const claims = { ...claimsOf({ id }), type: 'access', iat, exp: iat + 3600 }
    const token = makeToken(world.env.JWT_SECRET_ACCESS_TOKEN as string, claims)
    return call(gateway, `/api/x?iat=${iat}`, { headers: { authorization: `Bearer ${token}` } })
  }
  const login = (gateway: RunningGateway, key: string) =>
    call(gateway, '/api/auth/login', {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ tenant_key: key, email: 'a@b.example', password: 'x' }),
    })
  let isOver = false
  let calls = 0
  const startClient = async (number: number) => {
    const chance = seeded(SEED * 1000 + number)
    while (!isOver) {
      calls++
      const gateway = gateways[Math.floor(chance() * GATEWAYS)] as RunningGateway
      const subject = subjects[Math.floor(chance() * subjects.length)]
      if (subject === undefined || chance() < 0.2) {
        await login(gateway, names[Math.floor(chance() * KEYS)] as string)
      } else {
        // A token of before, or one of now (the tolerance of clocks covers the next second).
        await get(gateway, subject, chance() < 0.5 ? bornAtS : Math.floor(Date.now() / 1000) + 2)
      }
    }
  }

  // ---- changes

  /** The state that `work` makes of a tenant: from the moment it is begun it may be seen. */
  const change = async (
    subject: Subject,
    status: TenantStatus | null,
    work: () => Promise<unknown>,
  ) => {
    const last = subject.states.at(-1)
    const state: State = {
      startedAtMs: performance.now(),
      ackedAtMs: Number.POSITIVE_INFINITY,
      status,
      version: Number.NaN,
      tokensValidAfterMs: last?.tokensValidAfterMs ?? 0,
    }
    subject.states.push(state)
    await work()
    state.ackedAtMs = performance.now()
    const row = await world.store.findById(subject.id)
    state.version = row?.configVersion ?? Number.NaN
    state.tokensValidAfterMs = row?.tokensValidAfterMs ?? 0
  }
  const create = async (key: string) => {
    const id = randomUUID() as string as TenantId
    const subject: Subject = { id, key, states: [] }
    subjects.push(subject)
    byKey.set(key, subject)
    await change(subject, 'active', () => {
      const db = dbOf(subject, 0)
      return world.createTenant(key, { id, db })
    })
  }
  const dbOf = ({ id, key }: Subject, n: number) => ({
    ...{ host: `db-${n}.example`, port: 5432, name: key, user: `user-${n}` },
    passwordEncrypted: world.keyring.encrypt(`password-${n}`, {
      owner: id,
      column: 'db_password_encrypted',
    }),
    ...{ sslMode: null, poolMax: null },
  })
  const moveTo = (status: TenantStatus) => (subject: Subject) =>
    change(subject, status, () => writeStatus(world.store, subject.id, status, 'race'))
  const setDb = async (subject: Subject, isRotation: boolean) => {
    const row = await world.store.findById(subject.id)
    if (row === null) throw new Error('lost')
    const db = dbOf(subject, below(1000))
    await change(subject, row.status, () =>
      writeDb(
        world.store,
        subject.id,
        isRotation ? { ...row.db, passwordEncrypted: db.passwordEncrypted } : db,
        row.configVersion,
      ),
    )
  }
  const remove = (subject: Subject) =>
    change(subject, null, () => registry.query('DELETE FROM tenants WHERE id = $1', [subject.id]))
  const revoke = (subject: Subject) =>
    change(subject, subject.states.at(-1)?.status ?? null, () =>
      revokeSessions(world.store, subject.id),
    )
  const COMMON = [
    (subject: Subject) => setDb(subject, false),
    (subject: Subject) => setDb(subject, true),
    revoke,
    remove,
  ]
  const CHOICES: Record<TenantStatus, readonly ((subject: Subject) => Promise<void>)[]> = {
    provisioning: [moveTo('active')],
    active: [
      ...COMMON,
      moveTo('suspended'),
      moveTo('suspended'),
      moveTo('maintenance'),
      moveTo('archived'),
    ],
    suspended: [...COMMON, moveTo('active'), moveTo('active'), moveTo('active')],
    maintenance: [moveTo('active'), moveTo('active'), moveTo('suspended')],
    archived: [moveTo('suspended')],
  }
  const changeAny = (key: string) => {
    const subject = byKey.get(key)
    const status = subject?.states.at(-1)?.status
    return subject === undefined || status == null ? create(key) : pick(CHOICES[status])(subject)
  }

  // ---- the race

  for (const key of names.slice(0, KEYS / 2)) await create(key)
  const load = Array.from({ length: CLIENTS }, (_, i) => startClient(i))
  for (let done = 0; done < CHANGES; ) {
    const keys = new Set(Array.from({ length: 1 + below(6) }, () => pick(names)))
    // One after the other is chosen, so that the seed decides; all are carried out at once.
    await Promise.all([...keys].map(changeAny))
    done += keys.size
    await pause(below(100))
  }
  // What was changed last is to be met by requests that come late, too.
  await pause(KNOWN_WITHIN_MS + 200)

  // ---- what every gateway knows in the end

  const viewOf = async (gateway: RunningGateway, subject: Subject) => {
    const from = served.length
    const { status, text } = await get(gateway, subject, Math.floor(Date.now() / 1000) + 2)
    if (status !== 200) return `${status} ${(JSON.parse(text) as { code: string }).code}`
    const seen = await Promise.all(
      served.slice(from).map(({ token }) => world.verifier.verify(token, Date.now())),
    )
    const { ver, db } = seen.find(({ tid }) => tid === subject.id) as ContextClaims
    return `200 ${ver} ${db.host} ${db.user} ${db.password}`
  }
  const truthOf = async ({ id }: Subject) => {
    const row = await world.store.findById(id)
    if (row === null || row.status === 'archived') return '401 TENANT_UNKNOWN'
    if (row.status === 'suspended') return '403 TENANT_SUSPENDED'
    if (row.status !== 'active') return '503 TENANT_UNAVAILABLE'
    const place = { owner: id, column: 'db_password_encrypted' } as const
    const password = world.keyring.decrypt(row.db.passwordEncrypted, place)
    return `200 ${row.configVersion} ${row.db.host} ${row.db.user} ${password}`
  }
  isOver = true
  await Promise.all(load)
  const truth = await Promise.all(subjects.map(truthOf))
  for (const [i, gateway] of gateways.entries()) {
    let view: string[] = []
    await until(async () => {
      view = await Promise.all(subjects.map(subject => viewOf(gateway, subject)))
      return JSON.stringify(view) === JSON.stringify(truth)
    }, 2 * KNOWN_WITHIN_MS).catch(() => {})
    t.strictSame(view, truth, `gateway ${i} and the Registry, seed ${SEED}`)
    const logins = await Promise.all(names.map(key => login(gateway, key)))
    t.strictSame(
      logins.map(({ status }) => status === 200),
      names.map(key => byKey.get(key)?.states.at(-1)?.status === 'active'),
      `gateway ${i}: who can sign in`,
    )
  }

  // ---- what was served meanwhile

  const contexts = new Map<string, ContextClaims>()
  for (const { token } of served) {
    if (!contexts.has(token)) contexts.set(token, await world.verifier.verify(token, Date.now()))
  }
  const byId = new Map(subjects.map(subject => [subject.id as string, subject]))
  const wrong = served.filter(({ token, atMs, issuedAtS }) => {
    const { tid, ver } = contexts.get(token) as ContextClaims
    return !statesAt(byId.get(tid) as Subject, atMs).some(
      state =>
        state.status === 'active' &&
        state.version === ver &&
        (issuedAtS === null || issuedAtS * 1000 >= state.tokensValidAfterMs),
    )
  })
  t.strictSame(wrong.slice(0, 5), [], `served by what was over for a second, seed ${SEED}`)
  t.ok(served.length > CHANGES, `${served.length} of ${calls} requests were served`)
  t.ok(contexts.size > CHANGES / 4, `${contexts.size} contexts`)
})

/** The states that a gateway may go by: those that were not replaced a second ago, and have begun. */
function statesAt({ states }: Subject, atMs: number): readonly State[] {
  const settled = states.findLastIndex(({ ackedAtMs }) => ackedAtMs <= atMs - KNOWN_WITHIN_MS)
  return states.slice(Math.max(0, settled)).filter(({ startedAtMs }) => startedAtMs <= atMs)
}
