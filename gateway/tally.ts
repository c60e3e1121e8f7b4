import type { Metric, Registry } from 'prom-client'

/** 1 ms to 30 s, in seconds. */
export const SECONDS_BUCKETS = [
  0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30,
] as const
/** By the first digit; `gone` stands for a client that left before an answer began. */
const STATUS_CLASSES = ['gone', '1xx', '2xx', '3xx', '4xx', '5xx'] as const

interface Cell {
  /** By status class. */
  readonly answers: number[]
  /** Requests by bucket of their whole time; the last is above all bounds. */
  readonly took: number[]
  tookSumS: number
  readonly upstream: number[]
  upstreamSumS: number
}

interface Sample {
  readonly metricName?: string
  readonly labels: Record<string, string | number>
  readonly value: number
}

/**
 * Counts and durations of requests by route, as plain numbers: prom-client hashes the labels at each
 * `inc`, which costs more than the rest of the accounting. It reads them here at scrape time, so that
 * no count is lost or late.
 */
export class Tally {
  readonly #cells = new Map<string, Cell>()

  /** @param upstreamMs null where the request reached no upstream */
  observe(route: string, status: number, tookMs: number, upstreamMs: number | null): void {
    let cell = this.#cells.get(route)
    if (cell === undefined) {
      cell = makeCell()
      this.#cells.set(route, cell)
    }
    const statusClass = Math.floor(status / 100)
    cell.answers[statusClass] = (cell.answers[statusClass] ?? 0) + 1
    const tookS = tookMs / 1000
    count(cell.took, tookS)
    cell.tookSumS += tookS
    if (upstreamMs === null) return
    const upstreamS = upstreamMs / 1000
    count(cell.upstream, upstreamS)
    cell.upstreamSumS += upstreamS
  }

  /** Shows the numbers under the three names of their metrics. */
  register(registry: Registry): void {
    // Rate by route and status class. A rise of 5xx: look at doorman_faults_total for the code.
    add(registry, 'doorman_requests_total', 'counter', 'Requests by route and status class', () =>
      this.#each((route, { answers }) =>
        STATUS_CLASSES.flatMap((status, i) =>
          answers[i] ? [{ labels: { route, status }, value: answers[i] }] : [],
        ),
      ),
    )
    // Whole time from head to last byte. Against doorman_upstream_seconds it shows what we add.
    const tookHelp = 'Seconds from the end of the request head to the end of the answer'
    add(registry, 'doorman_request_seconds', 'histogram', tookHelp, () =>
      this.#each((route, { took, tookSumS }) =>
        histogram('doorman_request_seconds', route, took, tookSumS),
      ),
    )
    // Until the replica's answer head. If it rises, the app or a tenant database is slow.
    const upstreamHelp =
      'Seconds from the end of the request head to the head of the upstream answer'
    add(registry, 'doorman_upstream_seconds', 'histogram', upstreamHelp, () =>
      this.#each((route, { upstream, upstreamSumS }) =>
        histogram('doorman_upstream_seconds', route, upstream, upstreamSumS),
      ),
    )
  }

  #each(read: (route: string, cell: Cell) => Sample[]): Sample[] {
    return [...this.#cells].flatMap(([route, cell]) => read(route, cell))
  }
}

function makeCell(): Cell {
  const buckets = () => new Array<number>(SECONDS_BUCKETS.length + 1).fill(0)
  return {
    answers: new Array<number>(STATUS_CLASSES.length).fill(0),
    took: buckets(),
    tookSumS: 0,
    upstream: buckets(),
    upstreamSumS: 0,
  }
}

function count(buckets: number[], seconds: number): void {
  let i = 0
  while (i < SECONDS_BUCKETS.length && seconds > (SECONDS_BUCKETS[i] as number)) i++
  buckets[i] = (buckets[i] as number) + 1
}

/** The exposition format counts cumulatively: each bucket holds those below it too. */
function histogram(name: string, route: string, buckets: number[], sum: number): Sample[] {
  let below = 0
  const samples: Sample[] = buckets.map((inBucket, i) => {
    below += inBucket
    const le = SECONDS_BUCKETS[i] ?? '+Inf'
    return { metricName: `${name}_bucket`, labels: { route, le }, value: below }
  })
  samples.push({ metricName: `${name}_sum`, labels: { route }, value: sum })
  samples.push({ metricName: `${name}_count`, labels: { route }, value: below })
  return samples
}

function add(
  registry: Registry,
  name: string,
  type: 'counter' | 'histogram',
  help: string,
  read: () => Sample[],
): void {
  const get = async () => ({ name, help, type, aggregator: 'sum', values: read() })
  const reset = () => {}
  registry.registerMetric({ name, help, get, reset } as unknown as Metric<string>)
}
