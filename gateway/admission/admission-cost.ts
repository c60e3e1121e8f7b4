import { randomUUID } from 'node:crypto'
import type { Log } from '../../registry/lib/log.ts'
import type { Tenant } from '../../registry/tenant.ts'
import { type Exchange, makeExchange } from '../exchange.ts'
import { TimerWheel } from '../http1/timer-wheel.ts'
import { Admission } from './admission.ts'
import { Gate } from './gate.ts'
import { Quotas } from './quota.ts'

/*
 * What limits cost a request: `npm run bench -- admission` runs this file in a process of its own. The same loop without
 * them, with admission off, and with tenants that have more and more limits; at last requests that are refused. Prints
 * one line of JSON: of each the microseconds per request.
 *
 * Rounds are short, so that what else runs on the machine falls into few of them: the median leaves it out.
 */
const ROUNDS = 3000
const REQUESTS = 100
const TENANTS = 1000

const log = { error: () => {}, warn: () => {} } as unknown as Log
const rate = { requests_per_s: 1_000_000, burst: 10_000_000 }
const all = { ...rate, in_flight: 1_000_000, sockets: 1000, body_bytes: 1_000_000 }
const quota = { ...all, requests_per_month: 1e12 }
const makers = {
  off: makeParts(false, {}),
  none: makeParts(true, {}),
  rate: makeParts(true, rate),
  all: makeParts(true, all),
  quota: makeParts(true, quota),
  refused: makeParts(true, { requests_per_s: 0.01, burst: 1 }),
}

const taken: Record<string, number[]> = {}
for (let round = 0; round < ROUNDS; round++) {
  measure('the same loop without admission and gate', null, round)
  measure('admission off, the gate open', makers.off, round)
  measure('a tenant without limits', makers.none, round)
  measure('a limit on its rate', makers.rate, round)
  measure('limits on rate, in flight, sockets and body', makers.all, round)
  measure('the same, and a monthly quota', makers.quota, round)
  measure('a request that is refused', makers.refused, round)
}
const usPerRequest = Object.fromEntries(
  Object.entries(taken).map(([step, values]) => [step, summary(values)]),
)
process.stdout.write(`${JSON.stringify({ usPerRequest })}\n`)

interface Parts {
  readonly admission: Admission
  readonly gate: Gate
  readonly tenants: readonly Tenant[]
}

function makeParts(isOn: boolean, limits: object): Parts {
  const quotas = new Quotas({
    read: async () => ({ month: '', requests: new Map() }),
    slots: () => [],
    log,
  })
  const admission = new Admission({
    ...{ isOn, quotas, standard: {}, slotsMax: 16_384 },
    planOf: () => undefined,
    partOf: () => ({ share: 1, ahead: 0 }),
    onShort: () => {},
    onMalformed: () => {},
  })
  const wheel = new TimerWheel()
  const gate = new Gate({ cap: () => 10_000, waitersMax: 1, waitMs: 1, wheel })
  const tenants = Array.from({ length: TENANTS }, () => {
    return { id: randomUUID(), key: 'k', plan: null, limits, mode: 'shared', appUrl: null }
  })
  return { admission, gate, tenants: tenants as unknown as Tenant[] }
}

/** What handle.ts and forward.ts ask of a request on its way. */
function measure(step: string, parts: Parts | null, round: number): void {
  const tenants = (parts ?? makers.off).tenants
  const exchanges = Array.from({ length: REQUESTS }, (_, i) => {
    return exchangeOf(tenants[(round * REQUESTS + i) % TENANTS] as Tenant)
  })
  const headers: string[] = []
  const startedAt = performance.now()
  for (const exchange of exchanges) {
    headers.length = 0
    if (parts !== null) pass(parts, exchange, headers)
    exchange.status = 200
  }
  taken[step] ??= []
  taken[step].push(((performance.now() - startedAt) / REQUESTS) * 1000)
}

function pass({ admission, gate }: Parts, exchange: Exchange, headers: string[]): void {
  try {
    admission.enter(exchange)
    gate.enter(exchange)
    admission.answered(exchange)
    admission.addFields(headers, exchange)
  } catch {
    // A refusal, which answer.ts would send.
  }
  admission.leave(exchange)
  gate.leave(exchange)
}

function exchangeOf(tenant: Tenant): Exchange {
  const reply = null as never
  const exchange = makeExchange('GET', '/', [], { address: '', isTls: false }, null, reply, null)
  exchange.tenant = tenant
  return exchange
}

function summary(values: number[]) {
  const sorted = values.toSorted((a, b) => a - b)
  const mean = values.reduce((sum, value) => sum + value, 0) / values.length
  return { median: sorted[sorted.length >> 1], mean }
}
