import { randomUUID } from 'node:crypto'
import type { Exchange } from '../exchange.ts'
import { Pulse } from './pulse.ts'

/*
 * What it costs to count a request for the live views: `node gateway/live/pulse-cost.ts`. Prints one line of JSON:
 * nanoseconds per request, the median of many short rounds, and the bytes that a million requests left on the heap.
 */
const TENANTS = 1_000
const ROUNDS = 2_000
const REQUESTS = 1_000
const NOW_MS = Date.now()

const pulse = new Pulse()
const ended = Array.from({ length: TENANTS }, (_, i) => exchangeOf(randomUUID(), i))
for (const exchange of ended) pulse.note(exchange, NOW_MS)
const took: number[] = []
const heapBefore = process.memoryUsage().heapUsed
for (let round = 0; round < ROUNDS; round++) {
  const startedAt = performance.now()
  for (let i = 0; i < REQUESTS; i++) {
    pulse.note(ended[(round * 7 + i * 13) % TENANTS] as Exchange, NOW_MS + round)
  }
  took.push(((performance.now() - startedAt) * 1e6) / REQUESTS)
}
const heapBytes = process.memoryUsage().heapUsed - heapBefore
took.sort((a, b) => a - b)
const nsPerRequest = Math.round(took[Math.floor(ROUNDS / 2)] as number)
const bytesPerRequest = Math.round(heapBytes / (ROUNDS * REQUESTS))
process.stdout.write(`${JSON.stringify({ nsPerRequest, bytesPerRequest, TENANTS })}\n`)

function exchangeOf(id: string, i: number): Exchange {
  const times = { startedAt: 100, upstreamHeadAt: 100 + (i % 40) }
  const bytes = { bytesIn: i, bytesOut: 10 * i }
  return {
    tenant: { id },
    status: i % 50 === 0 ? 404 : 200,
    ...times,
    ...bytes,
  } as unknown as Exchange
}
