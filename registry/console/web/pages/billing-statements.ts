import { useEffect, useState } from 'preact/hooks'
import { CSV_HEAD, statementCsv } from '../../../billing/statement-csv.ts'
import type { Frozen, Statement } from '../../../billing/statements.ts'
import { ApiError, call, queryString } from '../lib/api.ts'
import { download } from '../lib/download.ts'
import { count, many, time } from '../lib/format.ts'
import { h, html, type View } from '../lib/html.ts'
import { money } from '../lib/money.ts'
import { thisMonth } from '../lib/month.ts'
import { Link } from '../lib/route.ts'
import { useMay } from '../lib/session.ts'
import { Failure } from '../ui/failure.ts'
import { Confirm } from '../ui/form-dialog.ts'
import { Table } from '../ui/table.ts'
import { StatementDialog } from './statement-dialog.ts'

const ROWS = 100
const EXPORT_ROWS = 200
/** Far more than a fleet has; a cursor that never ends ends here. */
const CALLS_MAX = 2000
const PROBLEMS_SHOWN = 50

interface StatementPage {
  readonly items: readonly Statement[]
  readonly next_cursor: string | null
}

type Outcome = Pick<Frozen, 'frozen' | 'empty' | 'failed'>

/** Frozen statements of a month; those who own the fleet freeze them. */
export function BillingStatements({ month }: { month: string }): View {
  const may = useMay()
  const [items, setItems] = useState<readonly Statement[]>([])
  const [next, setNext] = useState<string | null>('')
  const [error, setError] = useState<ApiError | null>(null)
  const [isBusy, setIsBusy] = useState(true)
  const [shown, setShown] = useState<Statement | null>(null)
  const [isAsked, setIsAsked] = useState(false)
  const [outcome, setOutcome] = useState<Outcome | null>(null)
  const attempt = async (work: () => Promise<void>) => {
    setIsBusy(true)
    setError(null)
    try {
      await work()
    } catch (failure) {
      if (failure instanceof ApiError) setError(failure)
    } finally {
      setIsBusy(false)
    }
  }
  const load = (cursor: string) =>
    attempt(async () => {
      const page = await statements(month, cursor, ROWS)
      setItems(now => (cursor === '' ? page.items : [...now, ...page.items]))
      setNext(page.next_cursor)
    })
  useEffect(() => {
    void load('')
  }, [])
  const save = (kind: 'csv' | 'json') =>
    attempt(async () => {
      const all = await allStatements(month)
      const parts =
        kind === 'csv'
          ? [CSV_HEAD, ...all.map(statementCsv)]
          : [`${JSON.stringify(all, null, 2)}\n`]
      download(
        `statements-${month}.${kind}`,
        kind === 'csv' ? 'text/csv' : 'application/json',
        parts,
      )
    })
  const freeze = async () => {
    const done = await freezeAll(month)
    setOutcome(done)
    void load('')
    return `Frozen: ${many(done.frozen, 'statement')}.`
  }
  const isOver = month < thisMonth()
  return html`
    <div class="section-head">
      <p class="hint">${summaryOf(items, next)}</p>
      <div class="buttons">
        <button type="button" disabled=${isBusy || items.length === 0} onClick=${() => save('csv')}>CSV</button>
        <button type="button" disabled=${isBusy || items.length === 0} onClick=${() => save('json')}>JSON</button>
        ${
          may.own
            ? html`<button type="button" class="primary" disabled=${!isOver} title=${isOver ? undefined : 'The month is not over.'} onClick=${() => setIsAsked(true)}>Freeze ${month}</button>`
            : null
        }
      </div>
    </div>
    ${error === null ? null : h(Failure, { error, onRetry: () => void load('') })}
    ${outcome === null ? null : h(Result, { outcome })}
    ${h(Table, {
      label: `Statements of ${month}`,
      class: 'tenants',
      isEmpty: items.length === 0,
      empty: isBusy ? 'Loading…' : `No statement of ${month} is frozen yet.`,
      columns: [
        { title: 'Tenant' },
        { title: 'Plan', class: 'mid' },
        { title: 'Amount', class: 'number' },
        { title: 'Lines', class: 'number mid' },
        { title: 'Frozen', class: 'wide-only' },
        { title: '' },
      ],
      children: items.map(
        statement => html`<tr key=${statement.tenant_id}>
          <th scope="row">
            ${h(Link, { to: `/tenants/${statement.tenant_id}`, class: 'key', children: statement.tenant_key })}
            ${statement.inputs.use.name === null ? null : html`<span class="name">${statement.inputs.use.name}</span>`}
          </th>
          <td class="mid">${statement.inputs.price_list.plan}</td>
          <td class="number">${money(statement.total_minor, statement.currency)}</td>
          <td class="number mid">${count(statement.lines.length)}</td>
          <td class="wide-only">${time(statement.frozen_at)}<span class="name">${statement.frozen_by}</span></td>
          <td class="end"><button type="button" aria-label=${`Lines of ${statement.tenant_key}`} onClick=${() => setShown(statement)}>Lines</button></td>
        </tr>`,
      ),
    })}
    ${
      next === null || items.length === 0
        ? null
        : html`<div class="pages"><button type="button" disabled=${isBusy} onClick=${() => load(next)}>More</button></div>`
    }
    ${h(StatementDialog, { of: shown, month, onClose: () => setShown(null) })}
    ${
      isAsked
        ? h(Confirm, {
            title: `Freeze ${month}`,
            verb: `Freeze ${month}`,
            run: freeze,
            onClose: () => setIsAsked(false),
            children:
              'The statements of all tenants with something to bill are made and never change again; what comes to light later is for the next month. Those that are frozen stay as they are.',
          })
        : null
    }
  `
}

function Result({ outcome: { frozen, empty, failed } }: { outcome: Outcome }): View {
  const more = failed.length - PROBLEMS_SHOWN
  return html`
    <p class="well" role="status">Frozen: ${many(frozen, 'statement')}. Nothing to bill: ${many(empty, 'tenant')}.</p>
    ${
      failed.length === 0
        ? null
        : html`<ul class="problems" aria-label="Not frozen">
            ${failed
              .slice(0, PROBLEMS_SHOWN)
              .map(
                ({ tenant_id: id, problem }) =>
                  html`<li key=${id} class="bad">${h(Link, { to: `/tenants/${id}`, children: id })}: ${problem}</li>`,
              )}
            ${more > 0 ? html`<li>And ${count(more)} more.</li>` : null}
          </ul>`
    }
  `
}

/** What is shown so far comes to. */
function summaryOf(items: readonly Statement[], next: string | null): string {
  const sums = new Map<string, number>()
  for (const { currency, total_minor: minor } of items) {
    sums.set(currency, (sums.get(currency) ?? 0) + minor)
  }
  if (items.length === 0) return ''
  const amounts = [...sums].map(([currency, minor]) => money(minor, currency)).join(' + ')
  return `${next === null ? '' : 'The first '}${many(items.length, 'statement')}: ${amounts}`
}

async function statements(month: string, cursor: string, limit: number): Promise<StatementPage> {
  const path = `/statements${queryString({ month, cursor, limit })}`
  return (await call<StatementPage>(path)).result
}

async function allStatements(month: string): Promise<readonly Statement[]> {
  const all: Statement[] = []
  let cursor: string | null = ''
  for (let calls = 0; cursor !== null && calls < CALLS_MAX; calls++) {
    const page: StatementPage = await statements(month, cursor, EXPORT_ROWS)
    all.push(...page.items)
    cursor = page.next_cursor
  }
  return all
}

/** The API freezes some at a time; where it breaks off, it is simply begun again. */
async function freezeAll(month: string): Promise<Outcome> {
  const sum = { frozen: 0, empty: 0, failed: [] as Frozen['failed'][number][] }
  let after: string | null = null
  for (let calls = 0; calls < CALLS_MAX; calls++) {
    const body: { month: string; after: string | null } = { month, after }
    const { result } = await call<Frozen>('/statements', { method: 'POST', body })
    sum.frozen += result.frozen
    sum.empty += result.empty
    sum.failed.push(...result.failed)
    after = result.next
    if (after === null) break
  }
  return sum
}
