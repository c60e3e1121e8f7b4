import { useState } from 'preact/hooks'
import type { PlanItem } from '../../../admin/plans.ts'
import type { PriceLine } from '../../../billing/price-list.ts'
import type { PriceList } from '../../../billing/prices.ts'
import { call, queryString } from '../lib/api.ts'
import { count, DASH } from '../lib/format.ts'
import { h, html, type View } from '../lib/html.ts'
import { money } from '../lib/money.ts'
import { usePolled } from '../lib/poll.ts'
import { useMay } from '../lib/session.ts'
import { Failure } from '../ui/failure.ts'
import { Confirm } from '../ui/form-dialog.ts'
import { Table } from '../ui/table.ts'
import { PlanDialog } from './plan-dialog.ts'
import { PriceDialog } from './price-dialog.ts'

/** Shown of the price lists, the newest of each plan first. */
const LISTS_SHOWN = 200

type Shown =
  | { readonly what: 'plan'; readonly plan: PlanItem | null }
  | { readonly what: 'no plan'; readonly plan: PlanItem }
  | { readonly what: 'prices'; readonly list: PriceList | null }
  | { readonly what: 'no prices'; readonly list: PriceList }

type Show = (shown: Shown) => void

/** Plans with their limits, and prices by the month from which they hold. */
export function BillingPrices(): View {
  const [shown, setShown] = useState<Shown | null>(null)
  const asked = usePolled('prices', null, async signal => {
    const [plans, prices] = await Promise.all([
      call<{ items: readonly PlanItem[] }>('/plans', { signal }),
      call<{ items: readonly PriceList[] }>('/prices', { signal }),
    ])
    return { plans: plans.result.items, prices: prices.result.items }
  })
  const failure =
    asked.error === null ? null : h(Failure, { error: asked.error, onRetry: asked.reload })
  if (asked.data === null) return failure ?? html`<div class="card" aria-busy="true"></div>`
  const { plans, prices } = asked.data
  return html`
    ${failure}
    ${h(Plans, { plans, show: setShown })}
    ${h(Prices, { prices, show: setShown })}
    ${shown === null ? null : h(Dialogs, { shown, plans, onChanged: asked.reload, onClose: () => setShown(null) })}
  `
}

function Plans({ plans, show }: { plans: readonly PlanItem[]; show: Show }): View {
  const may = useMay()
  const onAdd = () => show({ what: 'plan', plan: null })
  return html`<section aria-labelledby="plans">
    <div class="section-head">
      <h2 id="plans">Plans</h2>
      ${may.operate ? html`<button type="button" onClick=${onAdd}>Add a plan</button>` : null}
    </div>
    ${h(Table, {
      label: 'Plans',
      isEmpty: plans.length === 0,
      empty: 'There is no plan: tenants have limits of their own, or the defaults.',
      columns: [
        { title: 'Plan' },
        { title: 'Tenants', class: 'number' },
        { title: 'Weight', class: 'number mid' },
        { title: 'Limits' },
        ...(may.operate ? [{ title: '' }] : []),
      ],
      children: plans.map(
        plan => html`<tr key=${plan.code}>
          <th scope="row"><span class="mono">${plan.code}</span>${plan.name === plan.code ? null : html`<span class="name">${plan.name}</span>`}</th>
          <td class="number">${count(plan.tenants)}</td>
          <td class="number mid">${plan.weight}</td>
          <td class="why">${limitsOf(plan.limits)}</td>
          ${may.operate ? h(RowButtons, { of: `plan ${plan.code}`, onEdit: () => show({ what: 'plan', plan }), onRemove: () => show({ what: 'no plan', plan }) }) : null}
        </tr>`,
      ),
    })}
  </section>`
}

function Prices({ prices, show }: { prices: readonly PriceList[]; show: Show }): View {
  const may = useMay()
  const newestFirst = [...prices].sort(
    (a, b) => a.plan.localeCompare(b.plan) || b.from_month.localeCompare(a.from_month),
  )
  const onAdd = () => show({ what: 'prices', list: null })
  return html`<section aria-labelledby="prices">
    <div class="section-head">
      <h2 id="prices">Prices${newestFirst.length > LISTS_SHOWN ? ` (the first ${LISTS_SHOWN})` : ''}</h2>
      ${may.own ? html`<button type="button" onClick=${onAdd}>Set prices</button>` : null}
    </div>
    ${h(Table, {
      label: 'Prices',
      isEmpty: prices.length === 0,
      empty: 'No prices are set: no statement can be made.',
      columns: [
        { title: 'Plan' },
        { title: 'From' },
        { title: 'Base fee', class: 'number' },
        { title: 'Lines' },
        { title: 'Set by', class: 'wide-only' },
        ...(may.own ? [{ title: '' }] : []),
      ],
      children: newestFirst.slice(0, LISTS_SHOWN).map(
        list => html`<tr key=${`${list.plan} ${list.from_month}`}>
          <th scope="row" class="mono">${list.plan === '*' ? html`* <span class="of">all others</span>` : list.plan}</th>
          <td>${list.from_month}</td>
          <td class="number">${money(list.prices.base_fee, list.currency)}</td>
          <td class="why">${list.prices.lines.length === 0 ? DASH : list.prices.lines.map(line => html`<span key=${line.metric} class="price-line">${lineOf(line, list.currency)}</span>`)}</td>
          <td class="wide-only">${list.created_by}</td>
          ${may.own ? h(RowButtons, { of: `prices of ${list.plan} from ${list.from_month}`, onEdit: () => show({ what: 'prices', list }), onRemove: () => show({ what: 'no prices', list }) }) : null}
        </tr>`,
      ),
    })}
  </section>`
}

interface RowButtonsProps {
  readonly of: string
  readonly onEdit: () => void
  readonly onRemove: () => void
}

function RowButtons({ of, onEdit, onRemove }: RowButtonsProps): View {
  return html`<td class="end"><div class="buttons row-buttons">
    <button type="button" aria-label=${`Edit ${of}`} onClick=${onEdit}>Edit</button>
    <button type="button" class="danger" aria-label=${`Remove ${of}`} onClick=${onRemove}>Remove</button>
  </div></td>`
}

interface DialogsProps {
  readonly shown: Shown
  readonly plans: readonly PlanItem[]
  readonly onChanged: () => void
  readonly onClose: () => void
}

function Dialogs({ shown, plans, onChanged, onClose }: DialogsProps): View {
  if (shown.what === 'plan') return h(PlanDialog, { plan: shown.plan, onChanged, onClose })
  if (shown.what === 'prices') {
    return h(PriceDialog, { list: shown.list, plans, onChanged, onClose })
  }
  const remove = async (path: string, etag: string) => {
    try {
      return (await call(path, { method: 'DELETE', ifMatch: `"${etag}"` })).message
    } finally {
      onChanged()
    }
  }
  const props = { verb: 'Remove', isDangerous: true, onClose }
  if (shown.what === 'no plan') {
    const { code, etag } = shown.plan
    return h(Confirm, {
      ...props,
      title: `Remove plan ${code}`,
      run: () => remove(`/plans/${encodeURIComponent(code)}`, etag),
      children:
        'A plan that a tenant has cannot go. Its prices stay, for months that are still to be billed.',
    })
  }
  const { plan, from_month, etag } = shown.list
  return h(Confirm, {
    ...props,
    title: `Remove the prices of ${plan} from ${from_month}`,
    run: () => remove(`/prices${queryString({ plan, from_month })}`, etag),
    children: `Months from ${from_month} on that are not frozen yet are billed by the prices of before, else by those of all others; where there are none, they cannot be billed. Frozen statements stay as they are.`,
  })
}

/** In words: 0.05 of the minor unit for each 1000 requests, 10000 included. */
function lineOf({ metric, included, per, tiers }: PriceLine, currency: string): View {
  const free = included === '0' ? '' : `, ${included} included`
  const steps = tiers.map(({ price, up_to: upTo }) => {
    const to = upTo === undefined ? '' : ` up to ${upTo}`
    return `${price}${to}`
  })
  const unit = per === '1' ? 'each' : `per ${per}`
  return html`<code>${metric}</code> <span class="of">${steps.join(', then ')} minor units of ${currency} ${unit}${free}</span>`
}

function limitsOf(limits: unknown): string {
  const given = Object.entries(Object(limits) as Record<string, unknown>)
  if (given.length === 0) return DASH
  return given.map(([name, value]) => `${name}: ${JSON.stringify(value)}`).join(', ')
}
