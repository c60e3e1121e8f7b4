import { chooseAmong, isOverloaded } from './choose.ts'
import { OVERLOAD_IN_FLIGHT_MIN, SPREAD_LIMITS } from './fleet.ts'
import { hashText, rank } from './rendezvous.ts'
import { makeReplica, type Replica } from './replica.ts'
import { moveSpread } from './spread.ts'

export interface SimulationOptions {
  readonly tenants: number
  readonly replicas: number
  readonly k: number
  readonly requests: number
  readonly seed: number
}

export interface SimulationResult {
  readonly replicas: number
  /** Tenant × replica pairs with at least one request: each is a pool in an app. */
  readonly pools: number
  /** The same where every request takes the next replica in turn. */
  readonly roundRobinPools: number
  /** Most pools on one replica. */
  readonly poolsMax: number
  /** Highest number of requests that a replica served in the second half, over the mean. */
  readonly loadMax: number
  /** The same with the first replica of each tenant alone, whatever its load. */
  readonly unboundedLoadMax: number
  /** Replicas of the busiest tenant at the end. */
  readonly widest: number
  /** Share of tenants whose home changed when one replica joined, and when one left. */
  readonly movedByJoin: number
  readonly movedByLeave: number
}

/** A tenant's n-th place in Zipf's law has 1/n of the requests of the first. */
const ZIPF_EXPONENT = 1
/** Requests in flight for each replica, on average: busy, not saturated. */
const IN_FLIGHT_PER_REPLICA = 20
/** Each request takes half a second: so many begin per second and replica. */
const REQUESTS_PER_REPLICA_S = 2 * IN_FLIGHT_PER_REPLICA

/**
 * What the choice of replicas does to connections, load and churn, with the very functions that the
 * gateway uses. Pure: one seed gives one result.
 */
export function simulate(options: SimulationOptions): SimulationResult {
  const random = makeRandom(options.seed)
  const tenants = Array.from({ length: options.tenants }, (_, i) => hashText(`tenant-${i}`))
  const replicas = Array.from({ length: options.replicas }, (_, i) =>
    makeReplica(`http://10.0.${i >> 8}.${i & 255}:3000`),
  )
  const homes = tenants.map(hash => rank(hash, replicas, options.k))
  const spreads = tenants.map(() => ({ extra: 0, overSinceMs: 0, lastOverMs: 0 }))
  const draw = makeZipf(options.tenants, random)
  const pools = new Set<string>()
  const roundRobinPools = new Set<string>()
  const served = new Map<Replica, number>()
  const unbounded = new Map<Replica, number>()
  const load = { inFlight: 0, weight: replicas.length }
  // Ends come in random order: one request ends, picked at random, for each that begins.
  const underWay: Replica[] = []
  const inFlightMax = IN_FLIGHT_PER_REPLICA * replicas.length

  for (let i = 0; i < options.requests; i++) {
    if (underWay.length >= inFlightMax) {
      const at = Math.floor(random() * underWay.length)
      const ended = underWay[at] as Replica
      underWay[at] = underWay[underWay.length - 1] as Replica
      underWay.pop()
      ended.inFlight--
      load.inFlight--
    }
    const tenant = draw()
    const nowMs = 1 + (i * 1000) / (REQUESTS_PER_REPLICA_S * replicas.length)
    const spread = spreads[tenant] as (typeof spreads)[number]
    const isOver = isOverloaded(homes[tenant] as Replica[], load, OVERLOAD_IN_FLIGHT_MIN)
    if (moveSpread(spread, isOver, nowMs, SPREAD_LIMITS)) {
      homes[tenant] = rank(tenants[tenant] as number, replicas, options.k + spread.extra)
    }
    const home = homes[tenant] as Replica[]
    const chosen = chooseAmong(home, load, null, () => false) as Replica
    chosen.inFlight++
    load.inFlight++
    underWay.push(chosen)
    pools.add(`${tenant} ${chosen.origin}`)
    roundRobinPools.add(`${tenant} ${i % replicas.length}`)
    if (2 * i >= options.requests) served.set(chosen, (served.get(chosen) ?? 0) + 1)
    const first = home[0] as Replica
    unbounded.set(first, (unbounded.get(first) ?? 0) + 1)
  }

  const perReplica = new Map<string, number>()
  for (const pool of pools) {
    const origin = pool.slice(pool.indexOf(' ') + 1)
    perReplica.set(origin, (perReplica.get(origin) ?? 0) + 1)
  }
  const mean = options.requests / replicas.length
  const moved = (members: readonly Replica[]) =>
    tenants.filter((hash, i) => {
      const after = rank(hash, members, options.k)
      return (homes[i] as Replica[]).slice(0, options.k).some(replica => !after.includes(replica))
    }).length / tenants.length
  return {
    replicas: options.replicas,
    pools: pools.size,
    roundRobinPools: roundRobinPools.size,
    poolsMax: Math.max(...perReplica.values()),
    loadMax: (2 * Math.max(...served.values())) / mean,
    unboundedLoadMax: Math.max(...unbounded.values()) / mean,
    widest: Math.max(...homes.map(home => home.length)),
    movedByJoin: moved([...replicas, makeReplica('http://10.9.9.9:3000')]),
    movedByLeave: moved(replicas.slice(1)),
  }
}

export const SIMULATED = { tenants: 10_000, k: 2, requests: 400_000, seed: 1 } as const
export const SIMULATED_REPLICAS = [3, 6, 10, 30, 100] as const

/** The table of ARCHITECTURE.md, in Markdown. */
export function renderTable(results: readonly SimulationResult[]): string {
  const percent = (share: number) => `${(100 * share).toFixed(1)} %`
  const count = (n: number) => n.toLocaleString('en-US')
  const rows = results.map(
    r =>
      `| ${r.replicas} | ${count(r.roundRobinPools)} | ${count(r.pools)} | ${count(r.poolsMax)} ` +
      `| ${r.unboundedLoadMax.toFixed(2)} | ${r.loadMax.toFixed(2)} | ${r.widest} ` +
      `| ${percent(r.movedByJoin)} | ${percent(r.movedByLeave)} |`,
  )
  return [
    '| replicas | pools, round robin | pools, k = 2 | on the fullest | load max/mean, first only | load max/mean, bounded | replicas of the busiest tenant | moved by a join | by a leave |',
    '| --- | --- | --- | --- | --- | --- | --- | --- | --- |',
    ...rows,
  ].join('\n')
}

function makeZipf(n: number, random: () => number): () => number {
  const sums: number[] = []
  let sum = 0
  for (let i = 1; i <= n; i++) {
    sum += 1 / i ** ZIPF_EXPONENT
    sums.push(sum)
  }
  return () => {
    const wanted = random() * sum
    let low = 0
    let high = n - 1
    while (low < high) {
      const middle = (low + high) >> 1
      if ((sums[middle] as number) < wanted) low = middle + 1
      else high = middle
    }
    return low
  }
}

/** Mulberry32 (public domain, Ettinger). */
function makeRandom(seed: number): () => number {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}

if (import.meta.main) {
  const results = SIMULATED_REPLICAS.map(replicas => simulate({ ...SIMULATED, replicas }))
  process.stdout.write(`${renderTable(results)}\n`)
}
