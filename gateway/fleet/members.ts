import { lookup, resolveSrv } from 'node:dns/promises'
import { withDeadline } from '../../registry/lib/deadline.ts'
import type { Log } from '../../registry/lib/log.ts'
import { makeReplica, type Replica } from './replica.ts'

const DNS_REFRESH_MS = 5000
/** Below the refresh, so that two of them never overlap. */
const DNS_TIMEOUT_MS = 4000
/** Members of all names together; a name with more is cut, loudly. */
const MEMBERS_MAX = 1000

export interface Resolvers {
  addresses(host: string): Promise<string[]>
  services(name: string): Promise<readonly Service[]>
}

/** One answer of an SRV look-up (RFC 2782). */
export interface Service {
  readonly name: string
  readonly port: number
  readonly priority: number
  readonly weight: number
}

/** One entry of APP_UPSTREAMS. */
export interface MemberEntry {
  readonly kind: 'origin' | 'dns' | 'srv'
  readonly url: URL
  readonly weight: number
}

const WEIGHT = /^#weight=(\d{1,3})$/

/**
 * `http://10.0.0.7:3000`, with `#weight=2` behind it for twice the tenants; `dns:http://app:3000` for
 * every address of a name; `srv:http://_api._tcp.app.example` for its services, with their ports
 * and weights.
 *
 * @throws Error in words
 */
export function parseMemberEntry(text: string): MemberEntry {
  const kind = text.startsWith('dns:') ? 'dns' : text.startsWith('srv:') ? 'srv' : 'origin'
  const url = URL.parse(kind === 'origin' ? text : text.slice(4))
  if (url === null || !/^https?:$/.test(url.protocol)) {
    throw new Error('must list http(s) origins, each with dns: or srv: in front of it or not')
  }
  const weight = url.hash === '' ? 1 : Number(WEIGHT.exec(url.hash)?.[1] ?? 0)
  if (weight < 1)
    throw new Error('has something else than #weight=1 to #weight=999 behind an origin')
  return { kind, url, weight }
}

/** The members of APP_UPSTREAMS: listed origins, and names that are resolved again and again. */
export class Members {
  readonly #entries: readonly MemberEntry[]
  readonly #log: Log
  readonly #resolvers: Resolvers
  /** By entry: the members of its last good answer. */
  readonly #last = new Map<MemberEntry, ReadonlyMap<string, number>>()
  #replicas: Replica[] = []
  #isStarted = false
  #timer: NodeJS.Timeout | null = null

  /** @param resolvers replaced in tests */
  constructor(entries: readonly MemberEntry[], log: Log, resolvers: Resolvers = SYSTEM_RESOLVERS) {
    this.#entries = entries
    this.#log = log
    this.#resolvers = resolvers
  }

  get all(): readonly Replica[] {
    return this.#replicas
  }

  async start(): Promise<void> {
    await this.refresh(Date.now())
    if (this.#entries.every(({ kind }) => kind === 'origin')) return
    this.#timer = setInterval(() => void this.refresh(Date.now()), DNS_REFRESH_MS)
    this.#timer.unref()
  }

  stop(): void {
    if (this.#timer !== null) clearInterval(this.#timer)
  }

  /** Replicas that stay keep their state; those gone finish what they have in flight. */
  async refresh(nowMs: number): Promise<void> {
    const weights = new Map<string, number>()
    for (const members of await Promise.all(this.#entries.map(entry => this.#membersOf(entry)))) {
      for (const [origin, weight] of members) weights.set(origin, weight)
    }
    if (weights.size > MEMBERS_MAX) {
      this.#log.error(
        { members: weights.size, max: MEMBERS_MAX },
        'too many upstreams, the rest is unused',
      )
    }
    const known = new Map(this.#replicas.map(replica => [replica.origin, replica]))
    // Those there from the start have nobody to take tenants over from.
    const joinedAtMs = this.#isStarted && this.#replicas.length > 0 ? nowMs : null
    this.#isStarted = true
    this.#replicas = [...weights].slice(0, MEMBERS_MAX).map(([origin, weight]) => {
      const replica = known.get(origin) ?? makeReplica(origin, weight, joinedAtMs)
      replica.fullWeight = weight
      return replica
    })
  }

  async #membersOf(entry: MemberEntry): Promise<ReadonlyMap<string, number>> {
    if (entry.kind === 'origin') return new Map([[entry.url.origin, entry.weight]])
    try {
      const members = await withDeadline(
        entry.kind === 'dns' ? this.#byAddress(entry) : this.#byService(entry),
        DNS_TIMEOUT_MS,
        () => new Error('no answer in time'),
      )
      this.#last.set(entry, members)
      return members
    } catch (error) {
      // The members of the last good answer go on: a DNS outage must not empty the fleet.
      this.#log.warn({ err: error, upstream: entry.url.hostname }, 'could not resolve upstream')
      return this.#last.get(entry) ?? new Map()
    }
  }

  async #byAddress({ url, weight }: MemberEntry): Promise<ReadonlyMap<string, number>> {
    const port = url.port === '' ? '' : `:${url.port}`
    const addresses = await this.#resolvers.addresses(url.hostname)
    return new Map(
      addresses.map(address => {
        const host = address.includes(':') ? `[${address}]` : address
        return [`${url.protocol}//${host}${port}`, weight]
      }),
    )
  }

  async #byService({ url, weight }: MemberEntry): Promise<ReadonlyMap<string, number>> {
    const services = await this.#resolvers.services(url.hostname)
    const first = Math.min(...services.map(({ priority }) => priority))
    return new Map(
      services
        // The others are for when none of these is left (RFC 2782); none ever is without an answer.
        .filter(({ priority }) => priority === first)
        .map(({ name, port, weight: share }) => {
          const { origin } = new URL(`${url.protocol}//${name.replace(/\.$/, '')}:${port}`)
          return [origin, weight * Math.max(1, share)]
        }),
    )
  }
}

const SYSTEM_RESOLVERS: Resolvers = {
  async addresses(host) {
    return (await lookup(host, { all: true })).map(({ address }) => address)
  },
  services: resolveSrv,
}
