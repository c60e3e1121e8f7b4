import { randomUUID } from 'node:crypto'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Log } from '../../registry/lib/log.ts'
import { type Exchange, makeExchange } from '../exchange.ts'
import { cleanResponseHeaders } from '../upstream/response-head.ts'
import { UsageJournal } from './journal.ts'
import { Meter } from './meter.ts'

/*
 * What counting costs a request: `npm run bench -- metering-cost` runs this file in a process of its own. The same loop
 * without it, with it, with a field x-usage in each answer, and with a journal. Prints one line of JSON: of each the
 * microseconds per request.
 *
 * Rounds are short, so that what else runs on the machine falls into few of them: the median leaves it out.
 */
const ROUNDS = 3000
const REQUESTS = 100
const TENANTS = 1000
const USERS = 5

const users = Array.from({ length: TENANTS * USERS }, () => ({ sub: randomUUID() }))
const tenants = Array.from({ length: TENANTS }, () => ({ id: randomUUID() }))
const plain = ['content-type', 'application/json', 'cache-control', 'no-store', 'etag', '"1"']
const withUsage = [...plain, 'x-usage', 'pdf_generated=1, emails=3']
const dir = mkdtempSync(join(tmpdir(), 'doorman-cost-'))
const log = { error: () => {} } as unknown as Log
const makeMeter = (journal: UsageJournal | null) =>
  new Meter({ instance: randomUUID(), usersExactMax: 5000, journal })
const counting = makeMeter(null)
const adding = makeMeter(null)
const journalling = makeMeter(new UsageJournal({ dir, instance: randomUUID(), log }))
const crowded = new Meter({ instance: randomUUID(), usersExactMax: 0 })

const taken: Record<string, number[]> = {}
for (let round = 0; round < ROUNDS; round++) {
  measure('the same loop without counting', null, plain, round)
  measure('counted: class, user, bytes, time', counting, plain, round)
  measure('the same, every user beyond those that are named', crowded, plain, round)
  measure('the same as the first, and x-usage in each answer', adding, withUsage, round)
  measure('the same as the first, with a journal', journalling, plain, round)
  // As every few seconds; its cost is not a request's.
  if (round % 100 === 99) {
    for (const meter of [counting, crowded, adding, journalling]) seal(meter)
  }
}
rmSync(dir, { recursive: true })
const usPerRequest = Object.fromEntries(
  Object.entries(taken).map(([step, values]) => [step, summary(values)]),
)
process.stdout.write(`${JSON.stringify({ usPerRequest })}\n`)

function measure(step: string, meter: Meter | null, fields: readonly string[], round: number) {
  const exchanges = Array.from({ length: REQUESTS }, (_, i) => exchangeOf(round * REQUESTS + i))
  const startedAt = performance.now()
  for (const exchange of exchanges) {
    cleanResponseHeaders(fields, false, exchange)
    if (meter === null) continue
    meter.answered(exchange)
    meter.finished(exchange, 3.7)
  }
  taken[step] ??= []
  taken[step].push(((performance.now() - startedAt) / REQUESTS) * 1000)
}

function exchangeOf(i: number): Exchange {
  const reply = null as never
  const exchange = makeExchange('GET', '/', [], { address: '', isTls: false }, null, reply, null)
  const tenant = i % TENANTS
  exchange.tenant = tenants[tenant] as never
  // As it comes out of a cached token: always the same string for the same user.
  exchange.principal = users[tenant * USERS + (i % USERS)] as never
  exchange.status = i % 20 === 0 ? 404 : 200
  exchange.bytesOut = 1500
  return exchange
}

function seal(meter: Meter): void {
  for (let batch = meter.seal(); batch !== null; batch = meter.seal()) meter.written(batch.sequence)
}

function summary(values: number[]) {
  const sorted = values.toSorted((a, b) => a - b)
  const mean = values.reduce((sum, value) => sum + value, 0) / values.length
  return { median: sorted[sorted.length >> 1], mean }
}
