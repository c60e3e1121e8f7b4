import { h, html, type View } from '../lib/html.ts'
import { monthOr, monthsUntil, thisMonth } from '../lib/month.ts'
import { go, usePlace } from '../lib/route.ts'
import { MonthChoice } from '../ui/month-choice.ts'
import { PageHead } from '../ui/page-head.ts'
import { Tabs } from '../ui/tabs.ts'
import { BillingPrices } from './billing-prices.ts'
import { BillingStatements } from './billing-statements.ts'
import { BillingUsage } from './billing-usage.ts'
import { NoPage } from './no-page.ts'

const TABS = [
  ['', 'Usage'],
  ['statements', 'Statements'],
  ['prices', 'Plans and prices'],
] as const

/** What the fleet used, what is billed for it, and by which prices. */
export function BillingPage({ tab }: { tab: string }): View {
  const { query } = usePlace()
  const now = thisMonth()
  // Of a month that goes on there are no statements yet.
  const [before = now] = monthsUntil(now, 2)
  const month = monthOr(query.get('month'), tab === 'statements' ? before : now)
  if (!TABS.some(([path]) => path === tab)) return h(NoPage, {})
  const onChoice = (value: string) =>
    go(`/billing${tab === '' ? '' : `/${tab}`}?month=${value}`, { isReplaced: true })
  // A month that was chosen is kept from part to part; without one each has its own.
  const chosen = query.has('month') ? `?month=${month}` : ''
  return html`
    ${h(PageHead, {
      title: 'Billing',
      aside: tab === 'prices' ? null : h(MonthChoice, { month, onChoice }),
      children: html`<p class="hint">Months and days are counted in UTC.</p>`,
    })}
    ${h(Tabs, { label: 'Parts of billing', base: '/billing', tabs: tabsWith(chosen), current: `${tab}${chosen}` })}
    ${tab === '' ? h(BillingUsage, { key: month, month }) : null}
    ${tab === 'statements' ? h(BillingStatements, { key: month, month }) : null}
    ${tab === 'prices' ? h(BillingPrices, {}) : null}
  `
}

function tabsWith(query: string): readonly (readonly [string, string])[] {
  return TABS.map(([path, title]) => [`${path}${query}`, title])
}
