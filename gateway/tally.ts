import type { Metric, Registry } from 'prom-client'
import type { Exchange } from './exchange.ts'
import { ADDED_BUCKETS, Answers, Durations, type Sample, SECONDS_BUCKETS } from './tally-cell.ts'

interface Cell {
  readonly answers: Answers
  readonly took: Durations
  readonly upstream: Durations
  readonly added: Durations
}

/** What is counted of a request that has ended. */
export type Ended = Pick<
  Exchange,
  'status' | 'startedAt' | 'sentAt' | 'upstreamHeadAt' | 'answeredAt' | 'traceId' | 'isTraceKept'
>

/**
 * Counts and durations of requests by route, as plain numbers: prom-client hashes the labels at each
 * `inc`, which costs more than the rest of the accounting. It reads them here at scrape time, so that
 * no count is lost or late.
 */
export class Tally {
  readonly #cells = new Map<string, Cell>()

  observe(route: string, ended: Ended, tookMs: number): void {
    const { status, sentAt, upstreamHeadAt, answeredAt } = ended
    const traceId = ended.isTraceKept ? ended.traceId : null
    const cell = this.#cellOf(route)
    cell.answers.add(status)
    cell.took.add(tookMs, traceId)
    // Not of a WebSocket handshake, whose head another library writes.
    if (sentAt === 0 || upstreamHeadAt === 0) return
    cell.upstream.add(upstreamHeadAt - sentAt, traceId)
    if (answeredAt > 0) cell.added.add(addedMsOf(ended), traceId)
  }

  /** One that was refused before it became an exchange. */
  refuse(status: number): void {
    const cell = this.#cellOf('none')
    cell.answers.add(status)
    cell.took.add(0, null)
  }

  /** Shows the numbers under the names of their metrics. */
  register(registry: Registry): void {
    const durations = (name: string, help: string, of: (cell: Cell) => Durations) =>
      addMetric(registry, name, 'histogram', help, () =>
        [...this.#cells].flatMap(([route, cell]) => of(cell).samples(name, { route })),
      )
    addMetric(
      registry,
      'doorman_requests_total',
      'counter',
      'Requests by route and status class; gone: the client left before an answer began. A rise of 5xx: doorman_faults_total has the code, the runbook what to do about it.',
      () => [...this.#cells].flatMap(([route, { answers }]) => answers.samples({ route })),
    )
    durations(
      'doorman_request_seconds',
      'From the end of the request head to the end of the answer. If it rises, see which part does: doorman_upstream_seconds, doorman_added_seconds, or neither, and then clients read slowly or streams are open.',
      ({ took }) => took,
    )
    durations(
      'doorman_upstream_seconds',
      'From the head of the request being written to a replica to the head of its answer. If it rises, the app or a tenant’s database is slow: see doorman_app_request_seconds and doorman_app_pool_wait_seconds.',
      ({ upstream }) => upstream,
    )
    durations(
      'doorman_added_seconds',
      'What the gateway adds: from the end of the request head until it was written to a replica, and from the replica’s answer head to the client’s. Above 10 ms: the event loop is late (doorman_loop_delay_seconds), connections are short (doorman_upstream_waiting), the Registry is asked (doorman_registry_lookup_seconds), or tenants are held. Of login routes it has the wait for the client’s body in it.',
      ({ added }) => added,
    )
  }

  #cellOf(route: string): Cell {
    let cell = this.#cells.get(route)
    if (cell === undefined) {
      cell = makeCell()
      this.#cells.set(route, cell)
    }
    return cell
  }
}

/** The gateway's own part of the time until the client's answer head. */
export function addedMsOf({ startedAt, sentAt, upstreamHeadAt, answeredAt }: Ended): number {
  return sentAt - startedAt + (answeredAt - upstreamHeadAt)
}

function makeCell(): Cell {
  return {
    answers: new Answers(),
    took: new Durations(SECONDS_BUCKETS),
    upstream: new Durations(SECONDS_BUCKETS),
    added: new Durations(ADDED_BUCKETS),
  }
}

/** A metric whose samples are made when they are asked for. */
export function addMetric(
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
