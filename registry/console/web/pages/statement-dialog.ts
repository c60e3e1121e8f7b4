import type { StatementLine } from '../../../billing/price.ts'
import { CSV_HEAD, statementCsv } from '../../../billing/statement-csv.ts'
import type { Statement } from '../../../billing/statements.ts'
import { call, queryString } from '../lib/api.ts'
import { download } from '../lib/download.ts'
import { orDash, time } from '../lib/format.ts'
import { h, html, type View } from '../lib/html.ts'
import { money } from '../lib/money.ts'
import { usePolled } from '../lib/poll.ts'
import { Dialog } from '../ui/dialog.ts'
import { Failure } from '../ui/failure.ts'
import { Badge } from '../ui/status.ts'
import { Table } from '../ui/table.ts'

export interface StatementDialogProps {
  /** Of which tenant, as a row of a list has it; null: of none at the moment. */
  readonly of: { readonly tenant_id: string; readonly tenant_key: string } | null
  readonly month: string
  readonly onClose: () => void
}

/** A statement with its lines; before it is frozen, as it would be now. */
export function StatementDialog({ of, ...rest }: StatementDialogProps): View | null {
  return of === null ? null : h(Shown, { key: of.tenant_id, of, ...rest })
}

type ShownProps = StatementDialogProps & { of: NonNullable<StatementDialogProps['of']> }

function Shown({ of: { tenant_id: id, tenant_key: key }, month, onClose }: ShownProps): View {
  const asked = usePolled(`statement ${id} ${month}`, null, async signal => {
    const path = `/tenants/${id}/statement${queryString({ month })}`
    const { result } = await call<Statement>(path, { signal })
    return result
  })
  return h(Dialog, {
    title: `${key}, ${month}`,
    isWide: true,
    onClose,
    children: html`<div class="dialog-body">
      ${asked.error === null ? null : h(Failure, { error: asked.error, onRetry: asked.reload })}
      ${asked.data === null ? (asked.error === null ? html`<p class="hint">Working it out…</p>` : null) : h(Lines, { statement: asked.data })}
    </div>`,
  })
}

function Lines({ statement }: { statement: Statement }): View {
  const { currency, lines, inputs, frozen_at: frozenAt } = statement
  const name = `statement-${statement.tenant_key}-${statement.month}`
  const asCsv = () => download(`${name}.csv`, 'text/csv', [CSV_HEAD, statementCsv(statement)])
  const asJson = () =>
    download(`${name}.json`, 'application/json', [`${JSON.stringify(statement, null, 2)}\n`])
  return html`
    <div class="section-head">
      <p>
        ${frozenAt === null ? h(Badge, { text: 'draft', tone: 'warn' }) : h(Badge, { text: 'frozen', tone: 'ok' })}
        <span class="hint"> ${frozenAt === null ? 'as it would be now' : `${time(frozenAt)}, by ${statement.frozen_by}`} · prices of plan ${inputs.price_list.plan} from ${inputs.price_list.from_month}</span>
      </p>
      <div class="buttons inline-buttons">
        <button type="button" onClick=${asCsv}>CSV</button>
        <button type="button" onClick=${asJson}>JSON</button>
      </div>
    </div>
    ${h(Table, {
      label: 'Lines of the statement',
      isEmpty: lines.length === 0,
      empty: 'It has no lines.',
      columns: [
        { title: 'Line' },
        { title: 'Quantity', class: 'number' },
        { title: 'Amount', class: 'number' },
      ],
      children: html`
        ${lines.map((line, i) => h(Line, { key: i, line, currency }))}
        <tr class="sum"><th scope="row">Total</th><td></td><td class="number">${money(statement.total_minor, currency)}</td></tr>
      `,
    })}
  `
}

const KINDS: Readonly<Record<StatementLine['kind'], string>> = {
  base_fee: 'Base fee',
  usage: '',
  adjustment: 'Adjustment',
  credit: 'Credit',
}

function Line({ line, currency }: { line: StatementLine; currency: string }): View {
  const { kind, metric, of_month: ofMonth, text } = line
  const title = [KINDS[kind], kind === 'usage' || kind === 'adjustment' ? metric : '']
  return html`<tr>
    <th scope="row">
      ${title.filter(Boolean).join(': ')}${ofMonth === null ? null : html`<span class="of"> of ${ofMonth}</span>`}
      ${text === null ? null : html`<span class="name">${text}</span>`}
    </th>
    <td class="number">${orDash(line.quantity)}</td>
    <td class="number">${money(line.amount_minor, currency)}</td>
  </tr>`
}
