/** 1 ms to 30 s, in seconds. */
export const SECONDS_BUCKETS = [
  0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30,
] as const
/** 50 µs to 1 s: what we add is a fraction of a millisecond, unless something waits. */
export const ADDED_BUCKETS = [
  0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1,
] as const
/** By the first digit; `gone` stands for a client that left before an answer began. */
export const STATUS_CLASSES = ['gone', '1xx', '2xx', '3xx', '4xx', '5xx'] as const

export interface Exemplar {
  readonly labelSet: { readonly trace_id: string }
  /** Seconds. */
  readonly value: number
  /** Seconds since the epoch. */
  readonly timestamp: number
}

export interface Sample {
  readonly metricName?: string
  readonly labels: Record<string, string | number>
  readonly value: number
  readonly exemplar?: Exemplar
}

/** A histogram as plain numbers: prom-client hashes the labels at each `observe`. */
export class Durations {
  readonly #bounds: readonly number[]
  /** By bucket; the last is above all bounds. */
  readonly #counts: number[]
  #sumS = 0
  /** The latest of each bucket; made with the first. */
  #exemplars: (Exemplar | undefined)[] | null = null

  constructor(bounds: readonly number[]) {
    this.#bounds = bounds
    this.#counts = new Array<number>(bounds.length + 1).fill(0)
  }

  /** @param traceId null: nobody keeps the trace */
  add(ms: number, traceId: string | null): void {
    const seconds = ms / 1000
    const bounds = this.#bounds
    let i = 0
    while (i < bounds.length && seconds > (bounds[i] as number)) i++
    this.#counts[i] = (this.#counts[i] as number) + 1
    this.#sumS += seconds
    if (traceId !== null) this.#keep(i, seconds, traceId)
  }

  /** The exposition format counts cumulatively: each bucket holds those below it too. */
  samples(name: string, labels: Record<string, string>): Sample[] {
    let below = 0
    const samples: Sample[] = this.#counts.map((inBucket, i) => {
      below += inBucket
      const exemplar = this.#exemplars?.[i]
      return {
        metricName: `${name}_bucket`,
        labels: { ...labels, le: this.#bounds[i] ?? '+Inf' },
        value: below,
        ...(exemplar !== undefined && { exemplar }),
      }
    })
    samples.push({ metricName: `${name}_sum`, labels, value: this.#sumS })
    samples.push({ metricName: `${name}_count`, labels, value: below })
    return samples
  }

  #keep(bucket: number, value: number, traceId: string): void {
    this.#exemplars ??= []
    this.#exemplars[bucket] = {
      labelSet: { trace_id: traceId },
      value,
      timestamp: Date.now() / 1000,
    }
  }
}

/** Answers by status class. */
export class Answers {
  readonly #counts = new Array<number>(STATUS_CLASSES.length).fill(0)

  add(status: number): void {
    const statusClass = Math.floor(status / 100)
    this.#counts[statusClass] = (this.#counts[statusClass] as number) + 1
  }

  samples(labels: Record<string, string>): Sample[] {
    return STATUS_CLASSES.flatMap((status, i) => {
      const value = this.#counts[i] as number
      return value > 0 ? [{ labels: { ...labels, status }, value }] : []
    })
  }
}
