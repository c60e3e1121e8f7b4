import { useState } from 'preact/hooks'
import type { FailureItem, RunItem } from '../../../admin/migration-runs.ts'
import { call } from '../lib/api.ts'
import { count, orDash, time } from '../lib/format.ts'
import { h, html, type View } from '../lib/html.ts'
import { go, Link } from '../lib/route.ts'
import { FAILURES_SHOWN_MAX, isUnderWay, useRun } from '../lib/run.ts'
import { useMay } from '../lib/session.ts'
import { Facts } from '../ui/facts.ts'
import { Failure } from '../ui/failure.ts'
import { Confirm } from '../ui/form-dialog.ts'
import { PageHead } from '../ui/page-head.ts'
import { Table } from '../ui/table.ts'
import { RunProgress } from './migration-progress.ts'
import { tookOf } from './migration-tables.ts'

type Question = 'cancel' | 'failed' | 'unfinished'

/** One run, as it goes on. */
export function MigrationRunPage({ id }: { id: string }): View {
  const [again, setAgain] = useState(0)
  const [asked, setAsked] = useState<Question | null>(null)
  const { run, failures, error } = useRun(id, again)
  return html`
    <p class="crumbs">${h(Link, { to: '/migrations', children: 'Migrations' })}</p>
    ${h(PageHead, {
      title: 'Migration run',
      children: html`<p class="hint mono">${id}</p>`,
      aside: run === null ? null : h(Actions, { run, ask: setAsked }),
    })}
    ${error === null ? null : h(Failure, { error, onRetry: () => setAgain(again + 1) })}
    ${run === null && error === null ? html`<div class="card" aria-busy="true"></div>` : null}
    ${run === null ? null : h(Run, { run, failures })}
    ${run === null || asked === null ? null : h(Ask, { run, asked, onClose: () => setAsked(null) })}
  `
}

function Actions({ run, ask }: { run: RunItem; ask: (question: Question) => void }): View | null {
  const may = useMay()
  const isLive = isUnderWay(run)
  if (isLive) {
    if (!may.operate) return null
    return html`<button type="button" class="danger" disabled=${run.state === 'cancelling'} onClick=${() => ask('cancel')}>Cancel the run</button>`
  }
  if (!may.own) return null
  const isLeft = run.tenants === null || (run.left ?? 0) > 0
  return html`
    ${run.failed > 0 ? html`<button type="button" onClick=${() => ask('failed')}>Retry what failed</button>` : null}
    ${isLeft ? html`<button type="button" onClick=${() => ask('unfinished')}>Do what it left</button>` : null}
  `
}

const QUESTIONS: Readonly<
  Record<Question, { title: string; verb: string; text: (run: RunItem) => string }>
> = {
  cancel: {
    title: 'Cancel the run',
    verb: 'Cancel the run',
    text: () =>
      'What it has begun is finished, and nothing more begun. Tenants that are done stay done; the rest can be done by a run for what this one left.',
  },
  failed: {
    title: 'Retry what failed',
    verb: 'Start the retry',
    text: ({ failed }) =>
      `A new run begins at once, with the same options, for the ${count(failed)} that failed.`,
  },
  unfinished: {
    title: 'Do what it left',
    verb: 'Start the run',
    text: () =>
      'A new run begins at once, with the same options, for all that this one did not finish.',
  },
}

function Ask({
  run,
  asked,
  onClose,
}: {
  run: RunItem
  asked: Question
  onClose: () => void
}): View {
  const { title, verb, text } = QUESTIONS[asked]
  const begin = async () => {
    const isCancel = asked === 'cancel'
    const path = `/migrations/runs/${run.id}/${isCancel ? 'cancel' : 'retry'}`
    const body = isCancel ? {} : { body: { what: asked } }
    const { result, message } = await call<RunItem>(path, { method: 'POST', ...body })
    if (!isCancel) go(`/migrations/runs/${result.id}`)
    return message
  }
  const props = { title, verb, run: begin, onClose, isDangerous: asked === 'cancel' }
  return h(Confirm, { ...props, children: text(run) })
}

function Run({ run, failures }: { run: RunItem; failures: readonly FailureItem[] }): View {
  return html`
    ${run.problem === null ? null : html`<ul class="problems"><li class="bad"><span aria-hidden="true">⚠ </span>${run.problem}</li></ul>`}
    ${h(RunProgress, { run })}
    <div class="cards">
      <section class="card">
        <h2>The run</h2>
        ${h(Facts, {
          facts: [
            ['Started', `${time(run.started_at)}, by ${run.started_by}`],
            ['Began', run.began_at === null ? null : time(run.began_at)],
            ['Ended', run.ended_at === null ? null : `${time(run.ended_at)}, after ${tookOf(run)}`],
            ['Runner', run.runner],
            ['Cancelled by', run.cancelled_by],
            [
              'Retry of',
              run.retry_of === null
                ? null
                : h(Link, { to: `/migrations/runs/${run.retry_of}`, children: run.retry_of }),
            ],
          ],
        })}
      </section>
      <section class="card">
        <h2>What it was asked for</h2>
        ${h(Facts, { facts: optionsOf(run) })}
      </section>
    </div>
    ${h(Failures, { run, failures })}
  `
}

/** Names of tenants that are listed; a run may be of a thousand. */
const NAMES_SHOWN = 20

function optionsOf({ options, target }: RunItem): readonly (readonly [string, unknown])[] {
  const { tenants } = options
  const names = tenants?.slice(0, NAMES_SHOWN).join(', ')
  const more = tenants === null ? 0 : tenants.length - NAMES_SHOWN
  const also = [
    options.include_suspended ? 'suspended' : '',
    options.include_dedicated ? 'dedicated' : '',
  ].filter(Boolean)
  return [
    ['Tenants', tenants === null ? 'the fleet' : `${names}${more > 0 ? ` and ${more} more` : ''}`],
    ['To', orDash(target ?? options.to)],
    ['Also', also.length === 0 ? 'none' : also.join(' and ')],
    ['Only those behind', options.laggards ? 'yes' : 'no'],
    ['At a time', `${options.concurrency}, of one server ${options.per_host}`],
    ['First wave', options.canary === 0 ? 'none' : count(options.canary)],
    ['Stops after', options.max_failures === null ? null : `${options.max_failures} failures`],
    ['Tenants a minute', options.rate_per_minute],
    ['Tries more', options.retries],
  ]
}

function Failures({ run, failures }: { run: RunItem; failures: readonly FailureItem[] }): View {
  const isCut = failures.length === FAILURES_SHOWN_MAX
  return html`<section aria-labelledby="failures" class="below">
    <h2 id="failures">Failures${isCut ? ` (the latest ${FAILURES_SHOWN_MAX})` : ''}</h2>
    ${h(Table, {
      label: 'Failures',
      class: 'tenants',
      isEmpty: failures.length === 0,
      empty: isUnderWay(run) ? 'None so far.' : 'There was none.',
      columns: [
        { title: 'Tenant' },
        { title: 'Migration', class: 'mid' },
        { title: 'Code', class: 'mid' },
        { title: 'Why' },
        { title: 'Tries', class: 'number wide-only' },
        { title: 'When', class: 'wide-only' },
      ],
      children: failures.map(
        failure => html`<tr key=${`${failure.tenant_id} ${failure.at}`}>
          <th scope="row">${h(Link, { to: `/tenants/${failure.tenant_id}`, class: 'key', children: failure.tenant_key ?? failure.tenant_id })}</th>
          <td class="mid mono">${orDash(failure.version)}</td>
          <td class="mid"><code>${failure.code}</code></td>
          <td class="why"><code class="narrow-only">${failure.code}</code>${failure.error}</td>
          <td class="number wide-only">${count(failure.attempts)}</td>
          <td class="wide-only">${time(failure.at)}</td>
        </tr>`,
      ),
    })}
  </section>`
}
