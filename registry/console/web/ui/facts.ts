import { DASH } from '../lib/format.ts'
import { html, type View } from '../lib/html.ts'

export type Fact = readonly [name: string, value: unknown]

/** Names with values; what is not set is a dash, so that its absence is seen. */
export function Facts({ facts }: { facts: readonly Fact[] }): View {
  return html`<dl class="facts">
    ${facts.map(
      ([name, value]) => html`<div key=${name}>
        <dt>${name}</dt>
        <dd>${value === null || value === undefined || value === '' ? DASH : value}</dd>
      </div>`,
    )}
  </dl>`
}
