import { useState } from 'preact/hooks'
import type { TenantItem } from '../../../admin/item.ts'
import type { CreditItem } from '../../../billing/credits.ts'
import type { PriceList } from '../../../billing/prices.ts'
import { call } from '../lib/api.ts'
import { newKey, numberOrNull, textOrNull, useForm } from '../lib/form.ts'
import { time } from '../lib/format.ts'
import { h, html, type View } from '../lib/html.ts'
import { money } from '../lib/money.ts'
import { thisMonth } from '../lib/month.ts'
import { usePolled } from '../lib/poll.ts'
import { useMay } from '../lib/session.ts'
import { Failure } from '../ui/failure.ts'
import { Field } from '../ui/field.ts'
import { FormDialog } from '../ui/form-dialog.ts'
import { Badge } from '../ui/status.ts'
import { Table } from '../ui/table.ts'
import { ReasonField } from './action-dialog.ts'

/** What the tenant was given back, and by which statement it had it. */
export function TenantCredits({ tenant }: { tenant: TenantItem }): View {
  const may = useMay()
  const [isGiving, setIsGiving] = useState(false)
  const { id } = tenant
  const asked = usePolled(`credits ${id}`, null, async signal => {
    const [credits, prices] = await Promise.all([
      call<{ items: readonly CreditItem[] }>(`/tenants/${id}/credits`, { signal }),
      call<{ items: readonly PriceList[] }>('/prices', { signal }),
    ])
    return { credits: credits.result.items, currency: currencyOf(tenant, prices.result.items) }
  })
  const { data, error, reload } = asked
  return html`<section aria-labelledby="credits" class="below">
    <div class="section-head">
      <h2 id="credits">Credits</h2>
      ${may.own && data !== null ? html`<button type="button" onClick=${() => setIsGiving(true)}>Give a credit</button>` : null}
    </div>
    ${error === null ? null : h(Failure, { error, onRetry: reload })}
    ${data === null ? null : h(Credits, { credits: data.credits })}
    ${isGiving && data !== null ? h(CreditDialog, { tenant, currency: data.currency, onGiven: reload, onClose: () => setIsGiving(false) }) : null}
  </section>`
}

function Credits({ credits }: { credits: readonly CreditItem[] }): View {
  return h(Table, {
    label: 'Credits',
    isEmpty: credits.length === 0,
    empty: 'It was given none.',
    columns: [
      { title: 'Given' },
      { title: 'Amount', class: 'number' },
      { title: 'Reason' },
      { title: 'By statement of' },
    ],
    children: credits.map(
      credit => html`<tr key=${credit.id}>
        <th scope="row">${time(credit.created_at)}<span class="name">${credit.created_by}</span></th>
        <td class="number">${money(credit.amount_minor, credit.currency)}</td>
        <td class="why">${credit.reason}</td>
        <td>${credit.month ?? h(Badge, { text: 'the next one', tone: 'info' })}</td>
      </tr>`,
    ),
  })
}

/** Of the prices that hold for it now; empty: it has none. */
function currencyOf({ plan }: TenantItem, lists: readonly PriceList[]): string {
  const now = thisMonth()
  const holding = lists
    .filter(list => list.from_month <= now && (list.plan === plan || list.plan === '*'))
    .sort(
      (a, b) =>
        Number(a.plan === '*') - Number(b.plan === '*') || b.from_month.localeCompare(a.from_month),
    )
  return holding[0]?.currency ?? ''
}

interface CreditDialogProps {
  readonly tenant: TenantItem
  readonly currency: string
  readonly onGiven: () => void
  readonly onClose: () => void
}

/** It costs money and cannot be taken back: it is said once more what it comes to. */
function CreditDialog({ tenant, currency, onGiven, onClose }: CreditDialogProps): View {
  const { id, tenant_key: key } = tenant
  const form = useForm({ amount_minor: '', currency, reason: '' })
  const [isAsked, setIsAsked] = useState(false)
  // The same until the dialog goes: an answer that was lost gives nothing twice.
  const [once] = useState(newKey)
  const { values } = form
  const unit = values.currency?.trim() ?? ''
  const sum = money(Number(values.amount_minor), unit)
  const run = async () => {
    if (!isAsked) {
      setIsAsked(true)
      return null
    }
    const body = {
      amount_minor: numberOrNull(values.amount_minor),
      ...{ currency: unit, reason: textOrNull(values.reason) },
    }
    try {
      const path = `/tenants/${id}/credits`
      const { message } = await call(path, { method: 'POST', body, idempotencyKey: once })
      onGiven()
      return `${key}: ${message}`
    } catch (error) {
      setIsAsked(false)
      throw error
    }
  }
  return h(FormDialog, {
    title: `${isAsked ? 'Give this credit?' : 'Give a credit'}: ${key}`,
    verb: isAsked ? `Give ${sum}` : 'Go on',
    ...(isAsked ? { leave: 'Back', onLeave: () => setIsAsked(false) } : {}),
    ...{ form, run, onClose },
    children: isAsked
      ? html`<p role="alert">${sum} is taken off the next statement of ${key}. It cannot be taken back.</p>`
      : html`
          <p>It is taken off the next statement that is frozen.</p>
          ${h(Field, { label: 'Amount', type: 'number', isRequired: true, isFocused: true, hint: `In the currency’s minor unit: ${sum}.`, ...form.bind('amount_minor') })}
          ${h(Field, { label: 'Currency', isRequired: true, isMono: true, charsMax: 3, hint: 'That of its prices.', ...form.bind('currency') })}
          ${h(ReasonField, { form, isRequired: true, isFocused: false })}
        `,
  })
}
