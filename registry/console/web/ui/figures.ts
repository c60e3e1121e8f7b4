import type { ComponentChildren } from 'preact'
import { html, type View } from '../lib/html.ts'

export interface Figure {
  readonly title: string
  readonly value: ComponentChildren
  /** What stands below it, in small. */
  readonly note?: ComponentChildren
  readonly tone?: Tone | undefined
}

export type Tone = '' | 'ok' | 'warn' | 'bad'

/** The few figures that a page begins with. */
export function Figures({ label, figures }: { label: string; figures: readonly Figure[] }): View {
  return html`<dl class="tiles" aria-label=${label}>
    ${figures.map(
      ({ title, value, note, tone = '' }) => html`<div key=${title} class=${tone}>
        <dt>${title}</dt>
        <dd><strong>${value}</strong>${note == null ? null : html`<span class="name">${note}</span>`}</dd>
      </div>`,
    )}
  </dl>`
}
