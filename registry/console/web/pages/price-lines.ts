import { METRICS } from '../../../billing/metrics.ts'
import type { Form } from '../lib/form.ts'
import { h, html, type View } from '../lib/html.ts'
import {
  COUNTER,
  linesOfValues,
  NEW_LINE,
  NEW_TIER,
  pathOf,
  type TypedLine,
  valuesOfLines,
} from '../lib/price-form.ts'
import { Field } from '../ui/field.ts'

const METRIC_CHOICES = [
  ...METRICS.map(metric => [metric, metric] as const),
  [COUNTER, 'a counter of the app'] as const,
]
/** As the API bounds them. */
const LINES_MAX = 50
const TIERS_MAX = 20

/** What usage costs, line by line, each by steps. */
export function PriceLines({ form }: { form: Form }): View {
  const lines = linesOfValues(form.values)
  const set = (next: readonly TypedLine[]) => {
    // Paths have moved: what was said of one is not about the other.
    form.setError(null)
    form.setAll({ ...form.values, ...valuesOfLines(next) })
  }
  return html`
    ${lines.map((line, i) =>
      h(Line, {
        key: i,
        ...{ form, line, i },
        onChange: tiers => set(lines.with(i, { ...line, tiers })),
        onRemove: () => set(lines.toSpliced(i, 1)),
      }),
    )}
    <button type="button" disabled=${lines.length >= LINES_MAX} onClick=${() => set([...lines, NEW_LINE])}>Add a line</button>
  `
}

interface LineProps {
  readonly form: Form
  readonly line: TypedLine
  readonly i: number
  readonly onChange: (tiers: TypedLine['tiers']) => void
  readonly onRemove: () => void
}

function Line({ form, line, i, onChange, onRemove }: LineProps): View {
  const path = pathOf(i)
  const { tiers } = line
  const text = (name: string, label: string, hint: string) =>
    h(Field, { label, hint, isRequired: true, isMono: true, ...form.bind(`${path}.${name}`) })
  return html`<fieldset class="card line">
    <legend>Line ${i + 1}</legend>
    <div class="fields">
      ${h(Field, { label: 'Metric', options: METRIC_CHOICES, ...form.bind(`${path}.metric`) })}
      ${line.metric === COUNTER ? text('counter', 'Counter', 'Its name, such as emails.') : null}
      ${text('included', 'Included', 'Units that the base fee covers.')}
      ${text('per', 'Per', 'A price is for so many units.')}
    </div>
    ${tiers.map((_, k) => {
      const isLast = k === tiers.length - 1
      return html`<div key=${k} class="fields">
        ${
          isLast
            ? null
            : h(Field, {
                label: `Step ${k + 1} up to`,
                isRequired: true,
                isMono: true,
                ...form.bind(`${pathOf(i, k)}.up_to`),
              })
        }
        ${h(Field, {
          label: isLast && k === 0 ? 'Price' : `Step ${k + 1} price`,
          hint: isLast ? 'In the minor unit; of all beyond.' : 'In the minor unit.',
          ...{ isRequired: true, isMono: true },
          ...form.bind(`${pathOf(i, k)}.price`),
        })}
        ${isLast ? null : html`<p><button type="button" class="plain" onClick=${() => onChange(tiers.toSpliced(k, 1))}>Remove step ${k + 1}</button></p>`}
      </div>`
    })}
    ${form.bind(`${path}.tiers`).error === null ? null : html`<p class="error">${form.bind(`${path}.tiers`).error}</p>`}
    <div class="buttons">
      <button type="button" disabled=${tiers.length >= TIERS_MAX} onClick=${() => onChange(tiers.toSpliced(-1, 0, NEW_TIER))}>Add a step</button>
      <button type="button" class="danger" onClick=${onRemove}>Remove line ${i + 1}</button>
    </div>
  </fieldset>`
}
