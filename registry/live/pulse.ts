import { z } from 'zod'
import type { TenantId } from '../tenant.ts'
import { type PulseAnswer, pulseAnswer } from './answers.ts'
import {
  addFigures,
  type Figures,
  fieldOf,
  noFigures,
  quantileMs,
  SLOT_MS,
  SLOTS,
} from './figures.ts'
import { answerOf } from './gateway-item.ts'
import type { GatewayQuestions, Reply } from './questions.ts'

/** Seconds of a step, and the slots in it. */
export const STEPS_S = { '5': 1, '15': 3, '30': 6, '60': 12 } as const
export type StepS = keyof typeof STEPS_S
/** Up to so many tenants are told slot by slot, unless the caller says otherwise; more, in coarser steps. */
const FINE_TENANTS_MAX = 10

const counts = z.array(z.int())
const maybeMs = z.array(z.number().nullable())

const traffic = {
  /** By step, the oldest first. */
  requests: counts,
  client_errors: counts,
  limited: counts,
  server_errors: counts,
  aborted: counts,
  bytes_in: counts,
  bytes_out: counts,
  /** Until the head of the answer; null where there was none. */
  p50_ms: maybeMs,
  p99_ms: maybeMs,
}

/** The traffic of tenants in the last minutes, summed over the gateways that answered. */
export const pulseResult = z.strictObject({
  step_s: z.int(),
  /** Beginning of the first step. */
  from: z.iso.datetime(),
  /** Seconds of the last step that have passed: it is still being counted. */
  last_step_s: z.number(),
  gateways: z.int(),
  missing: z.array(z.uuid()),
  /** In the order asked for. */
  items: z.array(z.strictObject({ tenant_id: z.uuid(), ...traffic })),
})
export type Pulse = z.infer<typeof pulseResult>

/** @throws Fault REGISTRY_UNAVAILABLE, OVERLOADED */
export async function pulseOf(
  questions: GatewayQuestions,
  given: readonly TenantId[],
  stepS: StepS = given.length <= FINE_TENANTS_MAX ? '5' : '15',
): Promise<Pulse> {
  // In one order, so that whoever shows them in another shares the answer.
  const tenants = [...new Set(given)].sort()
  const step = STEPS_S[stepS]
  const pulse = await questions.ask(
    `pulse ${step} ${tenants.join()}`,
    () => ({ kind: 'pulse', tenants, step }),
    replies => summarize(tenants, step, replies, Date.now()),
  )
  const items = new Map(pulse.items.map(item => [item.tenant_id, item]))
  return { ...pulse, items: [...new Set(given)].flatMap(id => items.get(id) ?? []) }
}

function summarize(
  tenants: readonly TenantId[],
  step: number,
  replies: readonly Reply[],
  nowMs: number,
): Pulse {
  const read = replies.map(reply => ({ reply, answer: answerOf(reply, pulseAnswer) }))
  const stepMs = step * SLOT_MS
  const last = Math.floor(nowMs / stepMs)
  const length = SLOTS / step
  const first = last - length + 1
  const sums = sumsOf(read.flatMap(({ answer }) => answer ?? []))
  return {
    step_s: stepMs / 1000,
    from: new Date(first * stepMs).toISOString(),
    last_step_s: (nowMs - last * stepMs) / 1000,
    gateways: read.length,
    missing: read.flatMap(({ reply, answer }) => (answer === null ? [reply.id] : [])),
    items: tenants.map(id => {
      const steps = sums.get(id)
      // A gateway whose clock is ahead counts into a step that has not begun here: it shows a moment later.
      const rows = Array.from({ length }, (_, i) => steps?.get(first + i) ?? NONE)
      return {
        tenant_id: id,
        requests: rows.map(row => fieldOf(row, 'requests')),
        client_errors: rows.map(row => fieldOf(row, 'client_errors')),
        limited: rows.map(row => fieldOf(row, 'limited')),
        server_errors: rows.map(row => fieldOf(row, 'server_errors')),
        aborted: rows.map(row => fieldOf(row, 'aborted')),
        bytes_in: rows.map(row => fieldOf(row, 'bytes_in')),
        bytes_out: rows.map(row => fieldOf(row, 'bytes_out')),
        p50_ms: rows.map(row => rounded(quantileMs(row, 0.5))),
        p99_ms: rows.map(row => rounded(quantileMs(row, 0.99))),
      }
    }),
  }
}

const NONE: Figures = noFigures()

function sumsOf(answers: readonly PulseAnswer[]): Map<string, Map<number, number[]>> {
  const sums = new Map<string, Map<number, number[]>>()
  for (const { id, steps } of answers.flatMap(({ tenants }) => tenants)) {
    const own = sums.get(id) ?? new Map<number, number[]>()
    sums.set(id, own)
    for (const [at, figures] of steps) {
      const sum = own.get(at) ?? noFigures()
      own.set(at, sum)
      addFigures(sum, figures)
    }
  }
  return sums
}

function rounded(ms: number | null): number | null {
  return ms === null ? null : Math.round(ms * 10) / 10
}
