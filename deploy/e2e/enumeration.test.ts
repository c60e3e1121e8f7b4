import t from 'tap'
import { DEMO_PASSWORD } from '../local/demo-tenants.ts'
import { chanceAbove, greatestDistance, noiseDistance, quantile } from './distributions.ts'
import { KeptConnection } from './kept-connection.ts'
import { startWorld } from './test-kit.ts'

/** Of each kind. CONTRIBUTING.md says how to take a thousand. */
const SAMPLES = Number(process.env.ENUMERATION_SAMPLES ?? 40)
/** Beyond what chance explains: a neighbour that wakes up for one kind more often than for another. */
const SLACK = 0.1

const world = await startWorld({
  apps: 1,
  tenants: 3,
  gatewayEnv: {
    LOGIN_FAILURES_MAX: '0',
    LOGIN_FAILURES_PER_ACCOUNT_MAX: '0',
    LOGIN_FAILURES_PER_ADDRESS_MAX: '0',
  },
})
t.teardown(world.close)
const { acme, globex } = world
const connection = await KeptConnection.open(world.gateway.port)
t.teardown(() => connection.close())
const suspended = await world.cli(['suspend', 'globex'])
if (suspended.code !== 0) throw new Error(suspended.output)
const archivedKey = world.tenants[2]?.key as string
await world.registrySql(`UPDATE tenants SET status = 'archived' WHERE tenant_key = $1`, [
  archivedKey,
])

const wrongPassword = { tenant_key: 'acme', email: acme.email, password: 'not the password' }
const KINDS = {
  'wrong password': wrongPassword,
  'unknown user': { ...wrongPassword, email: 'nobody@acme.example' },
  'unknown tenant': { ...wrongPassword, tenant_key: 'nobody' },
  'suspended tenant': { tenant_key: 'globex', email: globex.email, password: DEMO_PASSWORD },
} as const
type Kind = keyof typeof KINDS
const kinds = Object.keys(KINDS) as Kind[]

/** The answer without what differs between any two: its date, and the id of the request. */
function shown(text: string): string {
  const id = /^x-request-id: (\S+)\r$/im.exec(text)?.[1] ?? ''
  return text.replace(/^date: .{29}\r$/im, 'date: …').replaceAll(id, '…'.repeat(id.length))
}

t.test('a client cannot tell by answer or time which tenants and users exist', async t => {
  const times = Object.fromEntries(kinds.map(kind => [kind, [] as number[]])) as Record<
    Kind,
    number[]
  >
  const answers = Object.fromEntries(kinds.map(kind => [kind, new Set<string>()])) as Record<
    Kind,
    Set<string>
  >
  const ask = async (kind: Kind) => {
    const { text, ms } = await connection.post('/api/auth/login', JSON.stringify(KINDS[kind]))
    answers[kind].add(shown(text))
    return ms
  }
  // The first answers of a process are slow, and the gateway has none yet to go by.
  for (let i = 0; i < 10; i++) await ask('wrong password')
  // In turn and each turn in another order, so that a busy machine is busy for all alike.
  for (let i = 0; i < SAMPLES; i++) {
    for (const kind of shuffled(kinds)) times[kind].push(await ask(kind))
  }

  const [reference = ''] = answers['wrong password']
  t.match(reference, /^HTTP\/1\.1 401 .*"code":"INVALID_CREDENTIALS"/s)
  for (const kind of kinds) {
    t.strictSame([...answers[kind]], [reference], `${kind}: every answer is the same, byte by byte`)
  }
  const distanceMax = noiseDistance(SAMPLES) + SLACK
  for (const kind of kinds) {
    const above = chanceAbove(times[kind], times['wrong password'])
    const distance = greatestDistance(times[kind], times['wrong password'])
    const [p10, p50, p90] = [0.1, 0.5, 0.9].map(q => quantile(times[kind], q).toFixed(2))
    t.comment(
      `${kind}: ${SAMPLES} samples, p10/p50/p90 ${p10}/${p50}/${p90} ms, ` +
        `chance above a wrong password ${above.toFixed(3)}, distance ${distance.toFixed(3)}`,
    )
    t.ok(distance < distanceMax, `${kind}: ${distance.toFixed(3)} from a wrong password's times`)
    t.ok(Math.abs(above - 0.5) < distanceMax / 2, `${kind}: neither faster nor slower`)
  }
})

t.test(
  'no login route and no odd body tells a tenant that exists from one that does not',
  async t => {
    const keys = ['acme', 'nobody', 'globex', archivedKey]
    const connections = await Promise.all(keys.map(() => KeptConnection.open(world.gateway.port)))
    t.teardown(() => {
      for (const each of connections) each.close()
    })
    const compare = async (
      path: string,
      rest: string,
      bodyOf: (key: string) => string,
      type?: string,
    ) => {
      const answers = await Promise.all(
        keys.map(
          async (key, i) => (await connections[i]?.post(path, bodyOf(key), type))?.text ?? '',
        ),
      )
      const seen = new Set(answers.map(shown))
      t.equal(seen.size, 1, `${path} ${rest.slice(0, 40)}: ${[...seen].join('\n')}`)
    }
    const rests: object[] = [
      { email: acme.email, password: 'x', otp: '000000' },
      {},
      { email: ['a'], password: { $ne: 1 } },
      { email: 'nobody@acme.example', password: 'x' },
      { email: acme.email, password: 'x'.repeat(5000) },
      // Short in characters, too long in bytes.
      { email: acme.email, password: '\u20ac'.repeat(1000) },
      { email: 'a\u0000b', password: '' },
    ]
    for (const name of ['login', 'forgot-password', 'verify-reset-otp', 'reset-password']) {
      const path = `/api/auth/${name}`
      for (const rest of name === 'login' ? rests : rests.slice(0, 2)) {
        const bodyOf = (tenant_key: string) => JSON.stringify({ tenant_key, ...rest })
        await compare(path, JSON.stringify(rest), bodyOf)
      }
    }
    const proto = (key: string) => `{"tenant_key":"${key}","__proto__":{"a":1},"password":"x"}`
    await compare('/api/auth/login', '__proto__', proto)
    const form = 'application/x-www-form-urlencoded'
    const doubled = (key: string) => `tenant_key=${key}&a=1&a=2&password=x`
    await compare('/api/auth/login', 'a form field that stands twice', doubled, form)
  },
)

function shuffled<T>(values: readonly T[]): T[] {
  return values
    .map(value => ({ value, rank: Math.random() }))
    .sort((a, b) => a.rank - b.rank)
    .map(({ value }) => value)
}
