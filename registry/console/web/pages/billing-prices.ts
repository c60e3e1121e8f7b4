import type { PlanItem } from '../../../admin/plans.ts'
import type { PriceLine } from '../../../billing/price-list.ts'
import type { PriceList } from '../../../billing/prices.ts'
import { call } from '../lib/api.ts'
import { count, DASH } from '../lib/format.ts'
import { h, html, type View } from '../lib/html.ts'
import { money } from '../lib/money.ts'
import { usePolled } from '../lib/poll.ts'
import { Failure } from '../ui/failure.ts'
import { Table } from '../ui/table.ts'

/** Shown of the price lists, the newest of each plan first. */
const LISTS_SHOWN = 200

/** Plans with their limits, and prices by the month from which they hold. */
export function BillingPrices(): View {
  const asked = usePolled('prices', null, async signal => {
    const [plans, prices] = await Promise.all([
      call<{ items: readonly PlanItem[] }>('/plans', { signal }),
      call<{ items: readonly PriceList[] }>('/prices', { signal }),
    ])
    return { plans: plans.result.items, prices: prices.result.items }
  })
  if (asked.error !== null) return h(Failure, { error: asked.error, onRetry: asked.reload })
  if (asked.data === null) return html`<div class="card" aria-busy="true"></div>`
  const { plans, prices } = asked.data
  const newestFirst = [...prices].sort(
    (a, b) => a.plan.localeCompare(b.plan) || b.from_month.localeCompare(a.from_month),
  )
  return html`
    <section aria-labelledby="plans">
      <h2 id="plans">Plans</h2>
      ${h(Table, {
        label: 'Plans',
        isEmpty: plans.length === 0,
        empty: 'There is no plan: tenants have limits of their own, or the defaults.',
        columns: [
          { title: 'Plan' },
          { title: 'Tenants', class: 'number' },
          { title: 'Weight', class: 'number' },
          { title: 'Limits' },
        ],
        children: plans.map(
          plan => html`<tr key=${plan.code}>
            <th scope="row"><span class="mono">${plan.code}</span>${plan.name === plan.code ? null : html`<span class="name">${plan.name}</span>`}</th>
            <td class="number">${count(plan.tenants)}</td>
            <td class="number">${plan.weight}</td>
            <td class="why">${limitsOf(plan.limits)}</td>
          </tr>`,
        ),
      })}
    </section>
    <section aria-labelledby="prices">
      <h2 id="prices">Prices${newestFirst.length > LISTS_SHOWN ? ` (the first ${LISTS_SHOWN})` : ''}</h2>
      ${h(Table, {
        label: 'Prices',
        isEmpty: prices.length === 0,
        empty:
          'No prices are set: no statement can be made. They are set by the API or the command line.',
        columns: [
          { title: 'Plan' },
          { title: 'From' },
          { title: 'Base fee', class: 'number' },
          { title: 'Lines' },
          { title: 'Set by', class: 'wide-only' },
        ],
        children: newestFirst.slice(0, LISTS_SHOWN).map(
          list => html`<tr key=${`${list.plan} ${list.from_month}`}>
            <th scope="row" class="mono">${list.plan === '*' ? html`* <span class="of">all others</span>` : list.plan}</th>
            <td>${list.from_month}</td>
            <td class="number">${money(list.prices.base_fee, list.currency)}</td>
            <td class="why">${list.prices.lines.length === 0 ? DASH : list.prices.lines.map(line => html`<span key=${line.metric} class="price-line">${lineOf(line, list.currency)}</span>`)}</td>
            <td class="wide-only">${list.created_by}</td>
          </tr>`,
        ),
      })}
    </section>
  `
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
