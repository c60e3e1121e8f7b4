import { randomUUID } from 'node:crypto'
import fc from 'fast-check'
import t from 'tap'
import {
  addFigures,
  type Field,
  type Figures,
  fieldOf,
  noFigures,
  quantileMs,
  SLOT_MS,
  SLOTS,
} from '../../registry/live/figures.ts'
import type { TenantId } from '../../registry/tenant.ts'
import type { Exchange } from '../exchange.ts'
import { PULSE_TENANTS_MAX, Pulse } from './pulse.ts'
import { RING_BYTES } from './ring.ts'

const ACME = randomUUID() as string as TenantId
const NOW_MS = 1_800_000_000_000

function exchange(tenant: string | null, status = 200, tookMs = 3): Exchange {
  const ended = { startedAt: 100, upstreamHeadAt: status === 0 ? 0 : 100 + tookMs }
  const bytes = { bytesIn: 10, bytesOut: 100 }
  return { tenant: tenant && { id: tenant }, status, ...ended, ...bytes } as unknown as Exchange
}

t.test(
  'property: a series is what was counted in the last five minutes, whatever came before',
  async () => {
    const request = fc.record({
      /** Of the clock, ahead of the request before: now and then longer than all that is kept. */
      pauseMs: fc.oneof(fc.nat(2000), fc.nat(40_000), fc.nat(2 * SLOTS * SLOT_MS)),
      status: fc.constantFrom(0, 101, 200, 204, 304, 401, 404, 429, 500, 503),
      tookMs: fc.double({ min: 0, max: 20_000, noNaN: true }),
      isOwn: fc.boolean(),
    })
    fc.assert(
      fc.property(
        fc.array(request, { maxLength: 60 }),
        fc.constantFrom(1, 3, 6, 12),
        (requests, step) => {
          const pulse = new Pulse()
          let nowMs = NOW_MS
          const counted: { slot: number; status: number }[] = []
          for (const { pauseMs, status, tookMs, isOwn } of requests) {
            nowMs += pauseMs
            pulse.note(exchange(isOwn ? ACME : 'other', status, tookMs), nowMs)
            if (isOwn) counted.push({ slot: Math.floor(nowMs / SLOT_MS), status })
          }
          const last = Math.floor(nowMs / SLOT_MS)
          const firstSlot = (Math.floor(last / step) - SLOTS / step + 1) * step
          const kept = counted.filter(({ slot }) => slot >= firstSlot && slot > last - SLOTS)
          const [own] = pulse.series([ACME], step, nowMs).tenants
          const sum = noFigures()
          for (const [, figures] of own?.steps ?? []) addFigures(sum, figures)
          const is = (field: Field, matches: (status: number) => boolean) =>
            fieldOf(sum, field) === kept.filter(({ status }) => matches(status)).length
          return (
            is('requests', () => true) &&
            is('aborted', status => status === 0) &&
            is('limited', status => status === 429) &&
            is('server_errors', status => status >= 500) &&
            is('client_errors', status => status >= 400 && status < 500 && status !== 429) &&
            fieldOf(sum, 'bytes_out') === 100 * kept.length &&
            sum.slice(7).reduce((a, b) => a + b, 0) ===
              kept.filter(({ status }) => status > 0).length
          )
        },
      ),
      { numRuns: 200 },
    )
  },
)

t.test('the busiest tenants are told first, by the last minute alone', async t => {
  const pulse = new Pulse()
  const [few, many, gone] = [randomUUID(), randomUUID(), randomUUID()]
  for (let i = 0; i < 50; i++) pulse.note(exchange(gone), NOW_MS - 61_000)
  for (let i = 0; i < 3; i++) pulse.note(exchange(few), NOW_MS)
  for (let i = 0; i < 30; i++) pulse.note(exchange(many, 500), NOW_MS - 30_000)
  pulse.note(exchange(null, 401), NOW_MS)
  const top = pulse.top(2, NOW_MS)
  t.strictSame(
    top.map(({ id }) => id),
    [many, few],
  )
  t.equal(fieldOf(top[0]?.figures as Figures, 'server_errors'), 30)
  t.equal(pulse.top(1, NOW_MS).length, 1)
  const { figures, coversS } = pulse.total(NOW_MS)
  t.equal(fieldOf(figures, 'requests'), 34, 'with those of no tenant')
  t.ok(coversS > 54 && coversS <= 60)
})

t.test('memory is bounded, whoever sends how much', async t => {
  const pulse = new Pulse(100)
  for (let i = 0; i < 1000; i++) pulse.note(exchange(`tenant-${i}`), NOW_MS)
  t.ok(pulse.size <= 100)
  t.equal(pulse.series(['tenant-999' as TenantId], 1, NOW_MS).tenants.length, 1)
  t.equal(pulse.series(['tenant-1' as TenantId], 1, NOW_MS).tenants.length, 0)
  t.ok(PULSE_TENANTS_MAX * RING_BYTES < 25 * 1024 * 1024)
})

t.test('an answer that lasts is timed by its head, a client that left by nothing', async t => {
  const pulse = new Pulse()
  // An event stream of an hour, whose head came after 3 ms.
  pulse.note(exchange(ACME, 200, 3), NOW_MS)
  pulse.note(exchange(ACME, 0), NOW_MS)
  const figures = pulse.total(NOW_MS).figures
  t.ok((quantileMs(figures, 0.99) ?? 0) <= 5)
  t.equal(quantileMs(noFigures(), 0.99), null)
  const one = (ms: number) => {
    const timed = new Pulse()
    timed.note(exchange(ACME, 200, ms), NOW_MS)
    return quantileMs(timed.total(NOW_MS).figures, 1)
  }
  t.strictSame([1, 2, 3, 4999, 60_000].map(one), [2, 2, 5, 5000, 5000])
})
