import { html, type View } from '../lib/html.ts'
import { monthsUntil, thisMonth } from '../lib/month.ts'

const MONTHS_SHOWN = 24

export interface MonthChoiceProps {
  readonly month: string
  readonly onChoice: (month: string) => void
}

/** The last two years, and the month that is shown where it is an older one. */
export function MonthChoice({ month, onChoice }: MonthChoiceProps): View {
  const known = monthsUntil(thisMonth(), MONTHS_SHOWN)
  const months = (known.includes(month) ? [...known] : [month, ...known]).reverse()
  const onChange = (event: Event) => onChoice((event.currentTarget as HTMLSelectElement).value)
  return html`<label class="inline"><span class="hidden">Month</span>
    <select value=${month} onChange=${onChange}>
      ${months.map(one => html`<option key=${one} value=${one} selected=${one === month}>${one}</option>`)}
    </select>
  </label>`
}
