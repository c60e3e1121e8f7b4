import type { ConnectionReport as Report } from '../../../admin/probe.ts'
import { ms } from '../lib/format.ts'
import { h, html, type View } from '../lib/html.ts'
import { Badge } from './status.ts'

/** What a test of connections found. */
export function ConnectionReport({ report }: { report: Report | null }): View {
  const line = (name: string, part: Report['database']) => html`<p>
    ${h(Badge, { text: part.ok ? 'works' : 'fails', tone: part.ok ? 'ok' : 'bad' })}
    <strong>${name}</strong>
    ${part.ok ? html`<span class="hint">${ms(part.took_ms)}</span>` : `${part.step ?? 'test'}: ${part.message}`}
  </p>`
  return html`<div class="report" role="status" aria-live="polite">
    ${report === null ? null : line('Database', report.database)}
    ${report === null || report.bucket === null ? null : line('Bucket', report.bucket)}
  </div>`
}
