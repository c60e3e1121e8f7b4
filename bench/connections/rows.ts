import type { FleetLoadResult } from './load.ts'
import type { Seen } from './watch.ts'

/** One level of load in one half of the comparison. */
export interface Measured {
  readonly half: string
  readonly concurrency: number
  readonly seen: Seen
  readonly load: FleetLoadResult
  /** Of all app processes together, at the end. */
  readonly rssBytes: number
}

/** The comparison as text for the terminal, in Markdown, so that it can stand in a document. */
export function renderRows(measured: readonly Measured[]): string {
  const rows = measured.map(({ half, concurrency, seen, load, rssBytes }) => {
    const spreads = [...load.replicasOf.values()].map(({ size }) => size)
    const failed = [...load.failures.values()].reduce((sum, n) => sum + n, 0)
    return [
      half,
      concurrency,
      count(seen.most),
      Math.max(0, ...seen.mostOf.values()),
      spreads.length,
      (spreads.reduce((sum, n) => sum + n, 0) / spreads.length).toFixed(2),
      Math.max(...spreads),
      count(load.requests / load.seconds),
      milliseconds(load.latency.percentile(0.5)),
      milliseconds(load.latency.percentile(0.99)),
      count(rssBytes / 2 ** 20),
      failed === 0 ? '0' : `${failed} (${[...load.failures.keys()][0]})`,
    ]
  })
  const head = [
    'replica chosen by',
    'at once',
    'connections, most',
    'of one tenant, most',
    'tenants that asked',
    'replicas per tenant, mean',
    'most',
    'req/s',
    'p50 ms',
    'p99 ms',
    'RSS of the apps, MB',
    'failed',
  ]
  return [head, head.map(() => '---'), ...rows].map(row => `| ${row.join(' | ')} |\n`).join('')
}

const count = (n: number) => Math.round(n).toLocaleString('en-US')
const milliseconds = (us: number) => (us / 1000).toFixed(1)
