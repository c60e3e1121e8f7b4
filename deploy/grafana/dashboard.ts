/** A dashboard as it is reviewed: what is asked and why. `render.ts` makes Grafana's JSON of it. */
export interface Dashboard {
  /** Of the file, the URL and Grafana's own index. */
  readonly uid: string
  readonly title: string
  readonly rows: readonly Row[]
}

export interface Row {
  readonly title: string
  readonly panels: readonly Panel[]
}

export interface Panel {
  readonly title: string
  /** What a person on call learns from it. */
  readonly help: string
  /** Grafana's name of the unit. */
  readonly unit: 's' | 'short' | 'reqps' | 'percentunit' | 'bytes' | 'ops'
  readonly kind?: 'timeseries' | 'stat'
  /** PromQL by legend. */
  readonly queries: Readonly<Record<string, string>>
}

/** A second, over what Grafana finds right for the zoom. */
export const rate = (metric: string) => `rate(${metric}[$__rate_interval])`

export const quantile = (q: number, metric: string, by = 'le') =>
  `histogram_quantile(${q}, sum by (${by}) (${rate(`${metric}_bucket`)}))`
