import { useEffect, useRef, useState } from 'preact/hooks'
import type { MigrationPlan } from '../../../migrate/plan.ts'
import { ApiError, call, queryString } from '../lib/api.ts'
import { focusWrong, textOrNull, useForm } from '../lib/form.ts'
import { count, many, orDash } from '../lib/format.ts'
import { h, html, type View } from '../lib/html.ts'
import { Link } from '../lib/route.ts'
import { Failure } from '../ui/failure.ts'
import { Check, Field } from '../ui/field.ts'
import { PageHead } from '../ui/page-head.ts'
import { Table } from '../ui/table.ts'

/** The gateway gives each plan a minute. */
const PLAN_MS = 70_000
const ROWS_SHOWN = 200

/** What a run would do where, by asking the databases. */
export function MigrationPlanPage(): View {
  const form = useForm({ tenants: '', to: '' })
  const [withSuspended, setWithSuspended] = useState(true)
  const [withDedicated, setWithDedicated] = useState(false)
  const [plan, setPlan] = useState<MigrationPlan | null>(null)
  const [isBusy, setIsBusy] = useState(false)
  const asking = useRef<AbortController | null>(null)
  useEffect(() => () => asking.current?.abort(), [])
  const onSubmit = async (event: Event) => {
    event.preventDefault()
    if (isBusy) return
    setIsBusy(true)
    setPlan(null)
    form.setError(null)
    const gone = new AbortController()
    asking.current = gone
    const { signal } = gone
    try {
      const tenants = (form.values.tenants ?? '').split(/[\s,]+/).filter(Boolean)
      const path = `/migrations/plan${queryString({
        tenants: tenants.join(),
        to: textOrNull(form.values.to),
        include_suspended: String(withSuspended),
        include_dedicated: String(withDedicated),
        sql: 'true',
      })}`
      const { result } = await call<MigrationPlan>(path, { signal, answerMs: PLAN_MS })
      setPlan(result)
    } catch (error) {
      if (signal.aborted) return
      if (error instanceof ApiError) form.setError(error)
      focusWrong()
    } finally {
      if (!signal.aborted) setIsBusy(false)
    }
  }
  return html`
    <p class="crumbs">${h(Link, { to: '/migrations', children: 'Migrations' })}</p>
    ${h(PageHead, {
      title: 'Plan of a run',
      children: html`<p class="hint">Each database is asked, and nothing is changed. Of a large fleet, name some tenants.</p>`,
    })}
    <form class="card" onSubmit=${onSubmit}>
      <div class="fields">
        ${h(Field, { label: 'Tenants', hint: 'Keys or ids, by commas. Empty: all.', isMono: true, ...form.bind('tenants') })}
        ${h(Field, { label: 'To version', hint: 'Empty: the newest of this release.', charsMax: 4, ...form.bind('to') })}
      </div>
      ${h(Check, { label: 'Suspended tenants too', isOn: withSuspended, onChange: setWithSuspended })}
      ${h(Check, { label: 'Dedicated tenants too', isOn: withDedicated, onChange: setWithDedicated })}
      <button type="submit" class="primary" disabled=${isBusy}>${isBusy ? 'Asking the databases…' : 'Ask the databases'}</button>
    </form>
    ${form.error === null ? null : h(Failure, { error: form.error })}
    <div aria-live="polite">${plan === null ? null : h(Plan, { plan })}</div>
  `
}

function Plan({ plan }: { plan: MigrationPlan }): View {
  const { tenants, pending, problems, items, files } = plan
  const shown = items.slice(0, ROWS_SHOWN)
  const more = plan.is_truncated || items.length > shown.length
  return html`
    <p class="well-known">
      <strong>${count(pending)}</strong> of ${many(tenants, 'tenant')} have something to do${problems === 0 ? '.' : html`; <strong class="problem-inline">${count(problems)} could not be asked</strong>.`}
    </p>
    ${files.length === 0 ? null : h(Files, { files })}
    ${
      items.length === 0
        ? null
        : html`<section aria-labelledby="where">
            <h2 id="where">Where${more ? ` (the first ${count(shown.length)})` : ''}</h2>
            ${h(Table, {
              label: 'Where',
              class: 'tenants',
              columns: [{ title: 'Tenant' }, { title: 'Version' }, { title: 'To do' }],
              children: shown.map(
                item => html`<tr key=${item.tenant_id}>
                  <th scope="row">${h(Link, { to: `/tenants/${item.tenant_id}`, class: 'key', children: item.tenant_key })}</th>
                  <td class="mono">${orDash(item.version)}</td>
                  <td class="why">
                    ${item.problem === null ? null : html`<span class="problem">⚠ ${item.problem}</span>`}
                    <span class="mono">${item.pending.join(', ')}</span>
                  </td>
                </tr>`,
              ),
            })}
          </section>`
    }
  `
}

function Files({ files }: { files: MigrationPlan['files'] }): View {
  return html`<section aria-labelledby="files">
    <h2 id="files">Migrations</h2>
    <div class="card files">
      ${files.map(
        ({ name, tenants, sql }) => html`<details key=${name}>
          <summary><span class="mono">${name}</span> <span class="of">in ${many(tenants, 'tenant')}</span></summary>
          ${sql === null ? html`<p class="hint">Too long to be shown here.</p>` : html`<pre tabindex="0"><code>${sql}</code></pre>`}
        </details>`,
      )}
    </div>
  </section>`
}
