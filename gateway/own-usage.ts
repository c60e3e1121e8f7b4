import { LRUCache } from 'lru-cache'
import { type Usage, usageOf } from '../registry/admin/usage.ts'
import { Fault } from '../registry/lib/errors.ts'
import type { RegistryStore } from '../registry/store.ts'
import type { Tenant, TenantId } from '../registry/tenant.ts'
import { answerOwnResult } from './answer.ts'
import type { Cors } from './cors.ts'
import type { Exchange } from './exchange.ts'
import type { Finish } from './forward.ts'

export interface OwnUsageOptions {
  readonly store: Pick<RegistryStore, 'use'>
  readonly cors: Cors
}

/** How long an answer is given again: a client that asks without a pause costs the Registry no more than this. */
const FRESH_MS = 5000
const ANSWERS_MAX = 1000
/** Look-ups under way; the Registry's connections are for other work. */
const FLIGHTS_MAX = 2
/** Tenants that wait for their turn: no longer than four pairs of look-ups, which end within REGISTRY_QUERY_TIMEOUT_MS each. */
const LINE_MAX = 8

/**
 * `GET /api/usage?month=YYYY-MM`: what the tenant of the access token has used. The gateway answers it, for the app has no
 * Registry; the tenant is that of the token and of nothing that the request says.
 */
export function makeOwnUsage({ store, cors }: OwnUsageOptions) {
  const answers = new LRUCache<string, Promise<Usage>>({ max: ANSWERS_MAX, ttl: FRESH_MS })
  /** One of each, whatever months it asks for: nobody takes the turns of the others. */
  const tenants = new Set<TenantId>()
  const line: (() => void)[] = []
  let flights = 0

  const look = async (id: TenantId, month: string): Promise<Usage> => {
    if (tenants.has(id)) throw new Fault('TENANT_BUSY', 'its usage is looked up already')
    if (flights === FLIGHTS_MAX && line.length === LINE_MAX) {
      throw new Fault('OVERLOADED', 'too many look-ups of usage at once')
    }
    tenants.add(id)
    try {
      if (flights < FLIGHTS_MAX) flights++
      else await new Promise<void>(resolve => line.push(resolve))
      try {
        return await usageOf({ store: store as RegistryStore }, id, month)
      } finally {
        // Handed on, where somebody waits for it.
        const next = line.shift()
        if (next === undefined) flights--
        else next()
      }
    } finally {
      tenants.delete(id)
    }
  }

  const read = (id: TenantId, month: string): Promise<Usage> => {
    const key = `${id} ${month}`
    const known = answers.get(key)
    if (known !== undefined) return known
    const usage = look(id, month)
    answers.set(key, usage)
    usage.catch(() => answers.delete(key))
    return usage
  }

  return (exchange: Exchange, finish: Finish): void => {
    if (exchange.upgrade !== null) {
      return finish(exchange, new Fault('BAD_REQUEST', 'there is no WebSocket of usage'))
    }
    let isOver = false
    const end = (error: unknown) => {
      if (isOver) return
      isOver = true
      exchange.reply.listener = null
      finish(exchange, error)
    }
    exchange.reply.listener = {
      onReplyGone() {
        exchange.errorReason = 'the client left'
        end(null)
      },
      onReplyDrain() {},
    }
    const { id } = exchange.tenant as Tenant
    monthOf(exchange.target)
      .then(month => read(id, month))
      .then(({ tenant_id: _, ...usage }) => {
        if (isOver) return
        answerOwnResult(exchange, 'Usage.', usage, cors)
        end(null)
      })
      .catch(end)
  }
}

/** @throws Fault VALIDATION_FAILED */
async function monthOf(target: string): Promise<string> {
  const given = new URLSearchParams(target.slice(target.indexOf('?') + 1)).getAll('month')
  if (!target.includes('?') || given.length === 0) return new Date().toISOString().slice(0, 7)
  const [month = ''] = given
  if (given.length === 1 && /^20\d\d-(0[1-9]|1[0-2])$/.test(month)) return month
  const publicMessage = 'month must be a month such as 2026-01.'
  throw new Fault('VALIDATION_FAILED', 'month', { publicMessage })
}
