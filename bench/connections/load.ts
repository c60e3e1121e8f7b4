import { Agent, request } from 'node:http'
import { Histogram } from '../lib/histogram.ts'
import { makeToken } from '../lib/tokens.ts'
import type { FleetTenant } from './databases.ts'

export interface FleetLoadOptions {
  readonly gatewayPorts: readonly number[]
  readonly accessSecret: string
  readonly tenants: readonly FleetTenant[]
  /** Which tenant asks next. */
  readonly next: () => number
  /** Requests under way at one time. */
  readonly concurrency: number
  readonly until: () => boolean
}

export interface FleetLoadResult {
  readonly requests: number
  readonly seconds: number
  /** In µs, of the requests that succeeded. */
  readonly latency: Histogram
  /** By tenant, those that answered it. */
  readonly replicasOf: ReadonlyMap<number, ReadonlySet<string>>
  /** How often each failure happened. */
  readonly failures: ReadonlyMap<string, number>
}

const USERS_PER_TENANT = 3
const ANSWER_MS = 15_000

/**
 * Users of many tenants, each asking for `/api/whoami`, which runs one statement in the tenant's
 * database and says which replica ran it. The lanes take the gateways in turn.
 */
export async function runFleetLoad(options: FleetLoadOptions): Promise<FleetLoadResult> {
  const { gatewayPorts, accessSecret, tenants, next, until } = options
  const agent = new Agent({ keepAlive: true })
  const tokens = new Map<number, string>()
  const latency = new Histogram()
  const replicasOf = new Map<number, Set<string>>()
  const failures = new Map<string, number>()
  let requests = 0

  const tokenOf = (tenant: FleetTenant, index: number) => {
    const user = index * USERS_PER_TENANT + (requests % USERS_PER_TENANT)
    const known = tokens.get(user)
    if (known !== undefined) return known
    const token = makeToken(accessSecret, tenant.id, user, Math.floor(Date.now() / 1000))
    tokens.set(user, token)
    return token
  }
  const lane = async (port: number) => {
    while (!until()) {
      const index = next()
      const tenant = tenants[index] as FleetTenant
      const startedAt = performance.now()
      try {
        const replica = await askWhere(agent, port, tenant, tokenOf(tenant, index))
        latency.record((performance.now() - startedAt) * 1000)
        const known = replicasOf.get(index)
        if (known === undefined) replicasOf.set(index, new Set([replica]))
        else known.add(replica)
      } catch (error) {
        const text = error instanceof Error ? error.message : String(error)
        failures.set(text, (failures.get(text) ?? 0) + 1)
      }
      requests++
    }
  }
  const startedAt = performance.now()
  try {
    const lanes = Array.from({ length: options.concurrency }, (_, i) =>
      lane(gatewayPorts[i % gatewayPorts.length] as number),
    )
    await Promise.all(lanes)
  } finally {
    agent.destroy()
  }
  const seconds = (performance.now() - startedAt) / 1000
  return { requests, seconds, latency, replicasOf, failures }
}

/** @returns the replica. @throws Error where the answer is no 200 of the tenant's own database */
async function askWhere(agent: Agent, port: number, tenant: FleetTenant, token: string) {
  const { status, text } = await get(agent, port, '/api/whoami', token)
  if (status !== 200) throw new Error(`${status} ${JSON.parse(text).code ?? ''}`)
  const { replica, database, tenant: answered } = JSON.parse(text).result
  if (database === tenant.database && answered.id === tenant.id) return String(replica)
  throw new Error('an answer of another tenant')
}

function get(agent: Agent, port: number, path: string, token: string) {
  return new Promise<{ status: number; text: string }>((resolve, reject) => {
    const headers = { authorization: `Bearer ${token}` }
    const sent = request(
      { host: '127.0.0.1', port, agent, path, headers, timeout: ANSWER_MS },
      answer => {
        let text = ''
        answer.setEncoding('utf8').on('data', (chunk: string) => {
          text += chunk
        })
        answer.on('error', reject)
        answer.on('end', () => resolve({ status: answer.statusCode ?? 0, text }))
      },
    )
    sent.on('timeout', () => sent.destroy(new Error('no answer in time')))
    sent.on('error', reject)
    sent.end()
  })
}
