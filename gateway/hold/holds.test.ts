import { randomUUID } from 'node:crypto'
import t from 'tap'
import type { Fault } from '../../registry/lib/errors.ts'
import type { TenantId } from '../../registry/tenant.ts'
import type { Exchange } from '../exchange.ts'
import { TimerWheel } from '../http1/timer-wheel.ts'
import { Holds, type HoldsOptions } from './holds.ts'

const TENANT = randomUUID() as string as TenantId
const OTHER = randomUUID() as string as TenantId

/** Holds by a clock that the test moves. */
function start(change: Partial<HoldsOptions> = {}) {
  let nowMs = 0
  const now = () => nowMs
  const wheel = new TimerWheel(100, 64, now)
  const seen = { held: 0, over: 0, progress: [] as number[], resumed: [] as [Exchange, unknown][] }
  const holds = new Holds({
    wheel,
    now,
    ...{ waitMaxMs: 30_000, waitersMax: 1000, waitersPerTenantMax: 1000, inFlight: () => 0 },
    onHold: () => seen.held++,
    onOver: () => seen.over++,
    onProgress: (_, inFlight) => seen.progress.push(inFlight),
    ...change,
  })
  t.teardown(() => wheel.close())
  let seq = 0
  const holdId = randomUUID()
  return {
    holds,
    seen,
    pass(ms: number) {
      for (let i = 0; i < ms; i += 100) {
        nowMs += 100
        wheel.tick()
      }
    },
    tell: (restMs: number, tenantId = TENANT, at = ++seq) =>
      holds.learn({ tenantId, holdId, seq: at, restMs }),
    wait(onResumed: (exchange: Exchange) => void = () => {}) {
      const exchange = { reply: { listener: null } } as unknown as Exchange
      const resume = (resumed: Exchange, error: Fault | null) => {
        seen.resumed.push([resumed, error?.code ?? null])
        onResumed(resumed)
      }
      holds.wait(exchange, TENANT, resume, () => {})
      return exchange
    },
  }
}

t.test('waits no longer than it may, in line, and goes on a few at a time', t => {
  const { holds, seen, pass, tell, wait } = start({ waitMaxMs: 5000 })
  tell(20_000)
  const first = wait()
  pass(3000)
  wait()
  pass(2300)
  t.strictSame(seen.resumed, [[first, 'TENANT_HELD']], 'the one that came first')
  t.equal(holds.waiting, 1)
  for (let i = 0; i < 99; i++) wait()
  tell(0)
  t.equal(seen.over, 1, 'the tenant is looked up anew before')
  t.equal(seen.resumed.length, 1 + 32)
  t.equal(holds.isHeld(TENANT), false, 'what comes anew does not wait')
  let ended = 0
  while (holds.waiting > 0) holds.ended(seen.resumed[1 + ended++]?.[0] as Exchange, TENANT)
  t.equal(ended, 100 - 32, 'each that ends makes room for one')
  t.equal(seen.resumed.filter(([, code]) => code === null).length, 100)
  t.end()
})

t.test('a long line of requests that end as soon as they go on is worked off', t => {
  const { holds, seen, tell, wait } = start({ waitersMax: 50_000, waitersPerTenantMax: 50_000 })
  tell(20_000)
  // Of a token that has expired meanwhile: refused within the call that lets it go on.
  const end = (exchange: Exchange) => holds.ended(exchange, TENANT)
  for (let i = 0; i < 50_000; i++) wait(end)
  tell(0)
  t.equal(seen.resumed.length, 50_000)
  t.equal(holds.waiting, 0)
  t.end()
})

t.test('one that ends at another tenant makes room in its line all the same', t => {
  const { holds, seen, pass, tell, wait } = start()
  tell(10_000)
  // A login whose tenant was suspended meanwhile is carried out at the decoy.
  for (let i = 0; i < 100; i++) wait(exchange => holds.ended(exchange, OTHER))
  tell(0)
  t.equal(seen.resumed.filter(([, code]) => code === null).length, 100)
  pass(16_000)
  t.equal(holds.size, 0, 'and the tenant is forgotten in the end')
  t.end()
})

t.test('late and repeated notices change nothing', t => {
  const { holds, seen, pass, tell } = start()
  tell(10_000, TENANT, 5)
  tell(10_000, TENANT, 5)
  t.equal(seen.held, 1)
  tell(0, TENANT, 4)
  t.equal(holds.isHeld(TENANT), true, 'an end from before its beginning')
  tell(0, TENANT, 6)
  tell(10_000, TENANT, 5)
  t.equal(holds.isHeld(TENANT), false, 'a beginning from before its end')
  tell(0, OTHER, 7)
  t.equal(holds.size, 1, 'the end of what was never heard of is not kept')
  pass(16_000)
  t.equal(holds.size, 0, 'nothing is kept for good')
  t.end()
})

t.test('a longer hold is one hold, and ends by the own clock in the end', t => {
  const { holds, seen, pass, tell, wait } = start()
  tell(5000)
  wait()
  pass(3000)
  tell(5000)
  t.equal(seen.held, 1)
  pass(3000)
  t.equal(holds.isHeld(TENANT), true)
  pass(2300)
  t.equal(holds.isHeld(TENANT), false)
  t.match(seen.resumed, [[Object, null]])
  t.equal(holds.waiting, 0)
  t.end()
})

t.test('says once what is under way, and once that nothing is', t => {
  let inFlight = 3
  const { holds, seen, tell } = start({ inFlight: () => inFlight })
  const ended = {} as Exchange
  tell(5000)
  while (inFlight > 0) {
    inFlight--
    holds.ended(ended, TENANT)
  }
  holds.ended(ended, TENANT)
  t.strictSame(seen.progress, [3, 0])
  t.end()
})
