import { lookup } from 'node:dns/promises'
import { withDeadline } from '../../registry/lib/deadline.ts'
import type { Log } from '../../registry/lib/log.ts'

/** One app replica that requests go to. */
export interface Replica {
  /** Scheme, host and port, such as `http://10.0.0.7:3000`. */
  readonly origin: string
  inFlight: number
  /** Not chosen before it, while another is at hand; `Date.now()` milliseconds. */
  restsUntilMs: number
}

/** How long a replica that could not be reached is passed over. */
const REST_MS = 2000
const DNS_REFRESH_MS = 5000
/** Below the refresh, so that two of them never overlap. */
const DNS_TIMEOUT_MS = 4000

/**
 * The replica for the next attempt: the one with the fewest requests in flight among those that do not
 * rest, or among all if all do. `exclude` was tried already.
 */
export function chooseReplica(
  replicas: readonly Replica[],
  exclude: Replica | null,
  startAt: number,
  nowMs: number,
): Replica | null {
  let best: Replica | null = null
  for (let i = 0; i < replicas.length; i++) {
    const replica = replicas[(startAt + i) % replicas.length] as Replica
    if (replica === exclude && replicas.length > 1) continue
    if (best === null || isBetter(replica, best, nowMs)) best = replica
  }
  return best
}

function isBetter(a: Replica, b: Replica, nowMs: number): boolean {
  const aRests = a.restsUntilMs > nowMs
  const bRests = b.restsUntilMs > nowMs
  return aRests === bRests ? a.inFlight < b.inFlight : bRests
}

/** The members of APP_UPSTREAMS: listed origins, and `dns:` ones resolved again and again. */
export class ReplicaSet {
  readonly #entries: readonly string[]
  readonly #log: Log
  readonly #resolve: (host: string) => Promise<string[]>
  /** By `dns:` entry: the origins of its last good answer. */
  readonly #lastOrigins = new Map<string, string[]>()
  #replicas: Replica[] = []
  #timer: NodeJS.Timeout | null = null
  #turn = 0

  /** @param resolve addresses of a host; replaced in tests */
  constructor(entries: readonly string[], log: Log, resolve = resolveAddresses) {
    this.#entries = entries
    this.#log = log
    this.#resolve = resolve
  }

  get all(): readonly Replica[] {
    return this.#replicas
  }

  async start(): Promise<void> {
    await this.refresh()
    if (!this.#entries.some(isDns)) return
    this.#timer = setInterval(() => void this.refresh(), DNS_REFRESH_MS)
    this.#timer.unref()
  }

  stop(): void {
    if (this.#timer !== null) clearInterval(this.#timer)
  }

  choose(exclude: Replica | null, nowMs: number): Replica | null {
    this.#turn = (this.#turn + 1) % 1_000_000
    return chooseReplica(this.#replicas, exclude, this.#turn, nowMs)
  }

  rest(replica: Replica, nowMs: number): void {
    replica.restsUntilMs = nowMs + REST_MS
  }

  /** Replicas that stay keep their state; those gone finish what they have in flight. */
  async refresh(): Promise<void> {
    const origins = new Set<string>()
    for (const entry of this.#entries) {
      for (const origin of await this.#originsOf(entry)) origins.add(origin)
    }
    const known = new Map(this.#replicas.map(replica => [replica.origin, replica]))
    this.#replicas = [...origins].map(
      origin => known.get(origin) ?? { origin, inFlight: 0, restsUntilMs: 0 },
    )
  }

  async #originsOf(entry: string): Promise<string[]> {
    if (!isDns(entry)) return [new URL(entry).origin]
    const url = new URL(entry.slice('dns:'.length))
    try {
      const port = url.port === '' ? '' : `:${url.port}`
      const addresses = await withDeadline(
        this.#resolve(url.hostname),
        DNS_TIMEOUT_MS,
        () => new Error('no answer in time'),
      )
      const origins = addresses.map(
        address => `${url.protocol}//${address.includes(':') ? `[${address}]` : address}${port}`,
      )
      this.#lastOrigins.set(entry, origins)
      return origins
    } catch (error) {
      // The members of the last good answer go on: a DNS outage must not empty the fleet.
      this.#log.warn({ err: error, entry }, 'could not resolve upstream')
      return this.#lastOrigins.get(entry) ?? []
    }
  }
}

function isDns(entry: string): boolean {
  return entry.startsWith('dns:')
}

async function resolveAddresses(host: string): Promise<string[]> {
  return (await lookup(host, { all: true })).map(({ address }) => address)
}
