import { LIVE_MS } from './membership.ts'
import type { RegistryStore } from './store.ts'
import type { TenantId } from './tenant.ts'

/** Limits that a tenant's load is held against process by process. */
export const SHARE_KINDS = ['rate', 'in_flight', 'sockets'] as const
export type ShareKind = (typeof SHARE_KINDS)[number]

/** What one process asks for of one limit of one tenant; all figures are parts of the limit. */
export interface Wish {
  readonly t: TenantId
  readonly k: ShareKind
  /** What its clients ask for. */
  readonly d: number
  /** What it uses now. */
  readonly u: number
  /** What it wants; null: no more than of every other limit. */
  readonly w: number | null
}

export interface ShareTurn {
  /** Names this process among the gateways. */
  readonly instance: string
  /** What it uses now of every limit without a row of its own. */
  readonly present: number
  /** Where it gets less than it wants, the others are asked to look at once. */
  readonly isUrgent: boolean
  readonly wishes: readonly Wish[]
}

/** What one process has of one limit of one tenant, as the Registry knows it. */
export interface ShareRow {
  readonly tenant: TenantId
  readonly kind: ShareKind
  /** Place of the process in `base`. */
  readonly at: number
  readonly share: number
  readonly demand: number
}

export interface ShareGrants {
  /** What it may use of every limit; less than `present`: it has to use less. */
  readonly grant: number
  /** Live processes. */
  readonly live: number
  /** Its own place in `base`. */
  readonly at: number
  /** Of each live process, in one order for all. */
  readonly base: readonly number[]
  /** By wish; null: there is no row of it any more. */
  readonly grants: readonly (number | null)[]
  readonly rows: readonly ShareRow[]
  /** It was granted less than it wants. */
  readonly isShort: boolean
}

/** One turn at a time of all gateways (advisory lock), a few milliseconds each; see 0017_plans.sql. */
const EXCHANGE = 'SELECT doorman_exchange_shares($1, $2, $3, $4, $5) AS answer'

/** null: the process is not among the live ones. @throws Fault REGISTRY_UNAVAILABLE */
export async function exchangeShares(
  store: Pick<RegistryStore, 'query'>,
  { instance, present, isUrgent, wishes }: ShareTurn,
  liveMs = LIVE_MS,
): Promise<ShareGrants | null> {
  const values = [instance, present, liveMs, isUrgent, JSON.stringify(wishes)]
  const [row] = await store.query(EXCHANGE, values)
  const answer = row?.answer as Answer | null
  if (answer === null) return null
  const { grant, live, at, base, grants, rows, short: isShort } = answer
  return {
    ...{ grant, live, at, base, grants, isShort },
    rows: rows.map(([tenant, kind, of, share, demand]) => {
      return { tenant, kind, at: of, share, demand }
    }),
  }
}

interface Answer {
  readonly grant: number
  readonly live: number
  readonly at: number
  readonly base: readonly number[]
  readonly grants: readonly (number | null)[]
  readonly rows: readonly (readonly [TenantId, ShareKind, number, number, number])[]
  readonly short: boolean
}
