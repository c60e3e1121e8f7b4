import { useState } from 'preact/hooks'
import type { PlanItem } from '../../../admin/plans.ts'
import type { PriceList } from '../../../billing/prices.ts'
import { call } from '../lib/api.ts'
import { useForm } from '../lib/form.ts'
import { many } from '../lib/format.ts'
import { h, html, type View } from '../lib/html.ts'
import { money } from '../lib/money.ts'
import { thisMonth } from '../lib/month.ts'
import { linesOfValues, pricesOf, typedLines, valuesOfLines } from '../lib/price-form.ts'
import { Field } from '../ui/field.ts'
import { FormDialog } from '../ui/form-dialog.ts'
import { PriceLines } from './price-lines.ts'

export interface PriceDialogProps {
  /** null: a new one. */
  readonly list: PriceList | null
  readonly plans: readonly PlanItem[]
  readonly onChanged: () => void
  readonly onClose: () => void
}

const ALL_OTHERS = '*'

/** Prices first, then what comes of them in words; only that sets them. */
export function PriceDialog({ list, plans, onChanged, onClose }: PriceDialogProps): View {
  const form = useForm({
    plan: list?.plan ?? ALL_OTHERS,
    from_month: list?.from_month ?? thisMonth(),
    currency: list?.currency ?? 'EUR',
    'prices.base_fee': String(list?.prices.base_fee ?? 0),
    ...valuesOfLines(list === null ? [] : typedLines(list.prices)),
  })
  const [isAsked, setIsAsked] = useState(false)
  const { values } = form
  const run = async () => {
    if (!isAsked) {
      setIsAsked(true)
      return null
    }
    const { plan, from_month, currency = '' } = values
    const body = { plan, from_month, currency: currency.trim(), prices: pricesOf(values) }
    // What somebody else has set meanwhile is not put aside unseen.
    const seen = list === null ? { isNew: true } : { ifMatch: `"${list.etag}"` }
    try {
      return (await call('/prices', { method: 'POST', body, ...seen })).message
    } catch (error) {
      setIsAsked(false)
      throw error
    } finally {
      onChanged()
    }
  }
  const choices = [
    [ALL_OTHERS, '* (all others)'],
    ...plans.map(({ code }) => [code, code] as const),
  ]
  const head =
    list === null
      ? html`
          ${h(Field, { label: 'Plan', options: choices as [string, string][], ...form.bind('plan') })}
          ${h(Field, { label: 'From month', type: 'month', isRequired: true, ...form.bind('from_month') })}
        `
      : null
  return h(FormDialog, {
    title: titleOf(list, isAsked),
    verb: isAsked ? 'Set the prices' : 'Go on',
    ...(isAsked ? { leave: 'Back', onLeave: () => setIsAsked(false) } : {}),
    ...{ isWide: true, form, run, onClose },
    children: isAsked
      ? html`<p role="alert">${consequence(values, plans)}</p>`
      : html`
          <div class="fields">
            ${head}
            ${h(Field, { label: 'Currency', hint: 'Of ISO 4217, such as EUR.', isRequired: true, isMono: true, charsMax: 3, ...form.bind('currency') })}
            ${h(Field, { label: 'Base fee of a month', type: 'number', isRequired: true, hint: inMoney(values), ...form.bind('prices.base_fee') })}
          </div>
          ${h(PriceLines, { form })}
        `,
  })
}

function titleOf(list: PriceList | null, isAsked: boolean): string {
  if (isAsked) return 'Set these prices?'
  return list === null ? 'Set prices' : `Prices of ${list.plan} from ${list.from_month}`
}

type Typed = ReturnType<typeof useForm>['values']

/** Amounts are typed as the API has them: what they come to is said. */
function inMoney({ currency = '', 'prices.base_fee': fee = '' }: Typed): string {
  const minor = Number(fee)
  const sum = Number.isSafeInteger(minor) ? money(minor, currency.trim()) : '…'
  return `In the currency’s minor unit: ${sum}.`
}

function consequence(values: Typed, plans: readonly PlanItem[]): string {
  const { plan = '', from_month: month = '', currency = '' } = values
  const tenants = plans.find(({ code }) => code === plan)?.tenants
  const whom =
    tenants === undefined
      ? 'Tenants whose plan has no prices of its own, or who have no plan,'
      : `Tenants of plan ${plan} (${many(tenants, 'tenant')} now)`
  const lines = linesOfValues(values).length
  const fee = money(Number(values['prices.base_fee']), currency.trim())
  const past =
    month < thisMonth()
      ? ' That month has begun long ago: all since then that are not frozen are billed anew.'
      : ''
  return `${whom} are billed by these from ${month} on: ${fee} a month and ${many(lines, 'line')} of usage. Statements that are frozen stay as they are; drafts, and months that are not frozen yet, take these.${past}`
}
