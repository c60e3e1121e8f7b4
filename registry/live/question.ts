import { z } from 'zod'
import { parseTenantId, type TenantId } from '../tenant.ts'

/** Tenants in one question: 100 ids are 4 kB, and a notice holds 8,000 bytes. */
export const TENANTS_ASKED_MAX = 100
export const TOP_MAX = 100
/** Gateways that one question has asking the replicas. */
export const VIA_ASKED_MAX = 4
/** Longest that a gateway may be told to take. */
const REST_MS_MAX = 10_000

const uuid = z.uuid().transform(text => text.toLowerCase())
const tenant = z.string().transform((text, context): TenantId => {
  const id = parseTenantId(text)
  if (id !== null) return id
  context.addIssue('no tenant id')
  return z.NEVER
})

const questionSchema = z.discriminatedUnion('kind', [
  /** What a process knows and does for one tenant. Those of `via` ask the tenant's replicas as well. */
  z.object({ kind: z.literal('tenant'), tenant, via: z.array(uuid).max(VIA_ASKED_MAX) }),
  /** The traffic of tenants, in steps of so many slots. */
  z.object({
    kind: z.literal('pulse'),
    tenants: z.array(tenant).min(1).max(TENANTS_ASKED_MAX),
    step: z.int().min(1).max(12),
  }),
  /** A process's own load, the replicas as it sees them, and its busiest tenants. Those of `via` ask the replicas. */
  z.object({
    kind: z.literal('fleet'),
    top: z.int().min(0).max(TOP_MAX),
    via: z.array(uuid).max(VIA_ASKED_MAX),
  }),
  /** What replicas tell of themselves. Those of `via` answer, and no others. */
  z.object({ kind: z.literal('replicas'), via: z.array(uuid).min(1).max(VIA_ASKED_MAX) }),
])

const askedSchema = z.object({
  id: uuid,
  rest_ms: z.number().min(0).max(REST_MS_MAX),
  question: questionSchema,
})

export type Question = z.infer<typeof questionSchema>

/** A question as a gateway hears it. */
export interface Asked {
  readonly id: string
  /** Milliseconds in which the answer is of use, when this was told. */
  readonly restMs: number
  readonly question: Question
}

/** The payload of a notice, or null where it is not one of ours (or of a later release). */
export function parseQuestion(payload: string | undefined): Asked | null {
  try {
    const read = askedSchema.safeParse(JSON.parse(payload ?? ''))
    if (!read.success) return null
    const { id, rest_ms, question } = read.data
    return { id, restMs: rest_ms, question }
  } catch {
    return null
  }
}

export function questionNotice({ id, restMs, question }: Asked): string {
  return JSON.stringify({ id, rest_ms: restMs, question })
}
