import { useState } from 'preact/hooks'
import type { FleetSummary } from '../../../admin/migration-summary.ts'
import { call } from '../lib/api.ts'
import { count, DASH, many, orDash, percent } from '../lib/format.ts'
import { h, html, type View } from '../lib/html.ts'
import { usePolled } from '../lib/poll.ts'
import { go, Link } from '../lib/route.ts'
import { useRun } from '../lib/run.ts'
import { useMay } from '../lib/session.ts'
import { Failure } from '../ui/failure.ts'
import { type Figure, Figures } from '../ui/figures.ts'
import { Bar } from '../ui/meter.ts'
import { PageHead } from '../ui/page-head.ts'
import { Table } from '../ui/table.ts'
import { RunProgress } from './migration-progress.ts'
import { MigrationStart } from './migration-start.ts'
import { LaggingTenants, RunTable } from './migration-tables.ts'

const SUMMARY_MS = 10_000

/** How the fleet stands, as the Registry knows it. */
export function MigrationsPage(): View {
  const may = useMay()
  const [isStarting, setIsStarting] = useState(false)
  const summary = usePolled('migrations', SUMMARY_MS, async (signal, isPoll) => {
    const { result } = await call<FleetSummary>('/migrations', { signal, isPoll })
    return result
  })
  const { data, error, reload } = summary
  return html`
    ${h(PageHead, {
      title: 'Migrations',
      children: html`<p class="hint">${data === null ? 'Asking the Registry…' : headline(data)}</p>`,
      aside: html`
        ${h(Link, { to: '/migrations/plan', class: 'button', children: 'Plan' })}
        ${
          may.own
            ? html`<button type="button" class="primary" disabled=${data === null || data.running !== null} onClick=${() => setIsStarting(true)}>Start a run</button>`
            : null
        }
      `,
    })}
    ${error === null ? null : h(Failure, { error, onRetry: reload })}
    ${data === null ? html`<div class="card" aria-busy=${error === null}></div>` : h(Summary, { summary: data })}
    ${
      isStarting && data !== null
        ? h(MigrationStart, {
            summary: data,
            onClose: () => setIsStarting(false),
            onStarted: id => go(`/migrations/runs/${id}`),
          })
        : null
    }
  `
}

function headline({ target, tenants, running }: FleetSummary): string {
  const state = running === null ? 'no run is under way' : 'a run is under way'
  return `${many(tenants, 'tenant')} · this release is at ${orDash(target)} · ${state}`
}

function Summary({ summary }: { summary: FleetSummary }): View {
  const { versions, tenants, target, failed, laggards, running, runs } = summary
  return html`
    ${running === null ? null : h(Running, { id: running.id })}
    ${h(Figures, { label: 'The fleet', figures: figuresOf(summary) })}
    <div class="halves">
      <section aria-labelledby="versions">
        <h2 id="versions">Versions</h2>
        ${h(Table, {
          label: 'Versions',
          columns: [
            { title: 'Version' },
            { title: 'Tenants', class: 'number' },
            { title: 'Share', class: 'number' },
            { title: '' },
          ],
          isEmpty: versions.length === 0,
          empty: 'There is no tenant.',
          children: versions.map(
            ({ version, tenants: of }) => html`<tr key=${version}>
              <th scope="row" class="mono">${version ?? 'none yet'}${version !== null && version === target ? html`<span class="of"> this release</span>` : null}</th>
              <td class="number">${count(of)}</td>
              <td class="number">${tenants === 0 ? DASH : percent(of / tenants)}</td>
              <td class="bar-cell">${h(Bar, { share: tenants === 0 ? 0 : of / tenants })}</td>
            </tr>`,
          ),
        })}
      </section>
      ${h(RunTable, { runs })}
    </div>
    ${failed.count === 0 ? null : h(LaggingTenants, { id: 'failed', title: 'Failed', tenants: failed, withError: true })}
    ${laggards.count === 0 ? null : h(LaggingTenants, { id: 'laggards', title: 'Behind this release', tenants: laggards, withError: false })}
  `
}

function Running({ id }: { id: string }): View | null {
  const { run } = useRun(id, 0)
  if (run === null) return null
  return html`<section aria-labelledby="running">
    <div class="section-head">
      <h2 id="running">Under way</h2>
      ${h(Link, { to: `/migrations/runs/${id}`, class: 'button', children: 'Follow it' })}
    </div>
    ${h(RunProgress, { run })}
  </section>`
}

function figuresOf(summary: FleetSummary): readonly Figure[] {
  const { target, tenants, versions, laggards, failed } = summary
  const current = versions.find(({ version }) => version === target)?.tenants ?? 0
  return [
    { title: 'This release', value: orDash(target), note: 'newest migration' },
    {
      title: 'Up to date',
      value: count(current),
      note: tenants === 0 ? '' : `${percent(current / tenants)} of ${count(tenants)}`,
      tone: tenants > 0 && current === tenants ? 'ok' : '',
    },
    {
      title: 'Behind',
      value: count(laggards.count),
      note: 'not failed',
      tone: laggards.count === 0 ? '' : 'warn',
    },
    {
      title: 'Failed',
      value: count(failed.count),
      note: 'at their last run',
      tone: failed.count === 0 ? '' : 'bad',
    },
  ]
}
