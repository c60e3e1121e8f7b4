import { html, type View } from '../lib/html.ts'

export interface BarsProps {
  readonly title: string
  /** One for each day or step; null: nothing is known of it. */
  readonly values: readonly (number | null)[]
  /** Of the bars, for their tooltips; the first, middle and last stand below. */
  readonly labels: readonly string[]
  readonly format: (value: number) => string
  /** What the figure beside the title says: their sum, or the last of a level. */
  readonly total: string
}

const WIDTH = 300
const HEIGHT = 88

/** Bars by hand; the figures are in a table for whoever cannot see them. */
export function Bars({ title, values, labels, format, total }: BarsProps): View {
  const top = Math.max(0, ...values.map(value => value ?? 0))
  const step = WIDTH / Math.max(1, values.length)
  const bars = values.map((value, i) => {
    const height =
      top === 0 || value === null ? 0 : Math.max(value > 0 ? 1.5 : 0, (value / top) * HEIGHT)
    const text = `${labels[i]}: ${value === null ? 'not measured' : format(value)}`
    return html`<g key=${i}>
      <rect class="bar-hit" x=${i * step} y="0" width=${step} height=${HEIGHT}><title>${text}</title></rect>
      <rect class="bar-fill" x=${i * step + step * 0.12} y=${HEIGHT - height} width=${step * 0.76} height=${height} />
    </g>`
  })
  const middle = Math.floor(values.length / 2)
  return html`<figure class="chart">
    <figcaption><span>${title}</span><strong>${total}</strong></figcaption>
    <div class="plot">
      <span class="top" aria-hidden="true">${top === 0 ? '' : format(top)}</span>
      <svg viewBox=${`0 0 ${WIDTH} ${HEIGHT}`} preserveAspectRatio="none" aria-hidden="true">
        <line class="grid" x1="0" x2=${WIDTH} y1="0.5" y2="0.5" />
        ${bars}
        <line class="axis" x1="0" x2=${WIDTH} y1=${HEIGHT} y2=${HEIGHT} />
      </svg>
    </div>
    <div class="ticks" aria-hidden="true">
      <span>${labels[0]}</span><span>${labels[middle]}</span><span>${labels.at(-1)}</span>
    </div>
    <table class="hidden">
      <caption>${title}</caption>
      <tbody>
        ${values.map(
          (value, i) =>
            html`<tr key=${i}><th scope="row">${labels[i]}</th><td>${value === null ? 'not measured' : format(value)}</td></tr>`,
        )}
      </tbody>
    </table>
  </figure>`
}
