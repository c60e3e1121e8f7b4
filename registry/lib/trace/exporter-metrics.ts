import type { Registry } from 'prom-client'
import { showCounts } from '../show-counts.ts'
import type { SpanExporter } from './exporter.ts'

/**
 * @param prefix of the name, such as `doorman_`
 * @param exporter null: nothing is exported
 */
export function showExporter(
  registry: Registry,
  prefix: string,
  exporter: Pick<SpanExporter, 'figures'> | null,
): void {
  showCounts(
    registry,
    `${prefix}spans_total`,
    'Spans for the trace collector by what became of them; none where OTEL_EXPORTER_OTLP_ENDPOINT is not set. dropped: the queue was full, so keep fewer traces (OTEL_TRACES_SAMPLER) or mend the collector. failed: it refused them or was away, the log says why. No request waits for either.',
    'outcome',
    () => ({ ...(exporter?.figures ?? { exported: 0, dropped: 0, failed: 0 }) }),
  )
}
