import {
  type Metric,
  type MetricObjectWithValues,
  type MetricValue,
  Registry,
  type RegistryContentType,
} from 'prom-client'

/** What a registry's metrics show at one moment, as plain data. */
export type Figures = readonly MetricObjectWithValues<MetricValue<string>>[]

/** A page of `/metrics`. */
export interface Exposition {
  readonly contentType: string
  readonly text: string
}

/**
 * The figures in the format that the scraper wants: OpenMetrics, which alone has room for exemplars, where `accept`
 * prefers it to Prometheus' older text, and that text otherwise.
 */
export async function expose(figures: Figures, accept: string | undefined): Promise<Exposition> {
  const isOpenMetrics = prefersOpenMetrics(accept ?? '')
  const type = isOpenMetrics ? Registry.OPENMETRICS_CONTENT_TYPE : Registry.PROMETHEUS_CONTENT_TYPE
  const registry = new Registry<RegistryContentType>()
  registry.setContentType(type)
  for (const figure of figures) {
    const shown = isOpenMetrics ? inOpenMetrics(figure) : figure
    // Copied: while it writes OpenMetrics prom-client changes names in place.
    const metric = { ...shown, get: () => shown, reset() {} }
    registry.registerMetric(metric as unknown as Metric<string>)
  }
  const text = await registry.metrics()
  // prom-client spells it in its own way, which a strict reader of OpenMetrics refuses.
  return { contentType: type, text: text.replace(/ Nan$/gm, ' NaN') }
}

/** There a counter's family goes without `_total`, which prom-client then puts behind each sample's name. */
function inOpenMetrics(figure: Figures[number]): Figures[number] {
  return isCounter(figure) ? { ...figure, name: figure.name.replace(/_total$/, '') } : figure
}

/** A type's name: prom-client declares an enumeration and gives words. */
function isCounter({ type }: { readonly type: unknown }): boolean {
  return type === 'counter'
}

/** RFC 9110 section 12.5.1, as far as two formats need it. */
function prefersOpenMetrics(accept: string): boolean {
  let open = 0
  let plain = 0
  for (const range of accept.split(',')) {
    const [type = '', ...parameters] = range.split(';').map(part => part.trim().toLowerCase())
    const quality = qualityOf(parameters)
    if (type === 'application/openmetrics-text') open = Math.max(open, quality)
    else if (type === 'text/plain' || type === 'text/*') plain = Math.max(plain, quality)
  }
  return open > 0 && open >= plain
}

function qualityOf(parameters: readonly string[]): number {
  const given = parameters.find(parameter => parameter.startsWith('q='))
  const quality = given === undefined ? 1 : Number(given.slice(2))
  return quality >= 0 && quality <= 1 ? quality : 0
}
