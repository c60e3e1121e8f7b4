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
/** Above the highest bar, for the figure that it stands for. */
const HEADROOM = 14
/** So few have each a label below. */
const LABELS_ALL_MAX = 7

/**
 * Bars by hand, of a tenant's days or of the fleet's months. They are a picture to a screen reader and out of reach of
 * the keyboard: the same figures stand in a table that opens below them.
 */
export function Bars({ title, values, labels, format, total }: BarsProps): View {
  const top = Math.max(0, ...values.map(value => value ?? 0))
  const step = WIDTH / Math.max(1, values.length)
  const bars = values.map((value, i) => {
    const height =
      top === 0 || value === null
        ? 0
        : Math.max(value > 0 ? 1.5 : 0, (value / top) * (HEIGHT - HEADROOM))
    const text = `${labels[i]}: ${value === null ? 'not measured' : format(value)}`
    return html`<g key=${i}>
      <rect class="bar-hit" x=${i * step} y="0" width=${step} height=${HEIGHT}><title>${text}</title></rect>
      <rect class="bar-fill" x=${i * step + step * 0.12} y=${HEIGHT - height} width=${step * 0.76} height=${height} />
    </g>`
  })
  const ticks =
    labels.length <= LABELS_ALL_MAX
      ? labels
      : [labels[0], labels[Math.floor(labels.length / 2)], labels.at(-1)]
  return html`<figure class="chart">
    <figcaption><span>${title}</span><strong>${total}</strong></figcaption>
    <div class="plot">
      <span class="top" aria-hidden="true">${top === 0 ? '' : format(top)}</span>
      <svg viewBox=${`0 0 ${WIDTH} ${HEIGHT}`} preserveAspectRatio="none" aria-hidden="true">
        <line class="grid" x1="0" x2=${WIDTH} y1=${HEADROOM} y2=${HEADROOM} />
        ${bars}
        <line class="axis" x1="0" x2=${WIDTH} y1=${HEIGHT} y2=${HEIGHT} />
      </svg>
    </div>
    <div class=${ticks === labels ? 'ticks even' : 'ticks'} aria-hidden="true">
      ${ticks.map(label => html`<span key=${label}>${label}</span>`)}
    </div>
    <details>
      <summary>Table<span class="hidden"> of ${title}</span></summary>
      <table>
        <thead class="hidden"><tr><th scope="col">When</th><th scope="col">${title}</th></tr></thead>
        <tbody>
          ${values.map(
            (value, i) =>
              html`<tr key=${i}><th scope="row">${labels[i]}</th><td class="number">${value === null ? 'not measured' : format(value)}</td></tr>`,
          )}
        </tbody>
      </table>
    </details>
  </figure>`
}
