import { z } from 'zod'
import type { Reply } from './questions.ts'

/** A serving process in an answer of the admin API. */
export const gatewayItem = z.strictObject({
  id: z.uuid(),
  host: z.string(),
  pid: z.int(),
  /** 0: a gateway by itself. */
  worker: z.int(),
  address: z.string().nullable(),
  version: z.string(),
  started_at: z.iso.datetime(),
  heartbeat_age_ms: z.int(),
})
export type GatewayItem = z.infer<typeof gatewayItem>

export function gatewayItemOf(reply: Reply): GatewayItem {
  return {
    id: reply.id,
    host: reply.host,
    pid: reply.pid,
    worker: reply.worker,
    address: reply.address,
    version: reply.version,
    started_at: reply.startedAt.toISOString(),
    heartbeat_age_ms: reply.heartbeatAgeMs,
  }
}

/** The answer if it can be read; null: none came, or one of a release that speaks otherwise. */
export function answerOf<T>(reply: Reply, schema: z.ZodType<T>): T | null {
  const read = schema.safeParse(reply.answer)
  return read.success ? read.data : null
}
