import type { ComponentChildren } from 'preact'
import { html, type View } from '../lib/html.ts'

export interface Column {
  readonly title: string
  /** Of its head; its cells bring their own. */
  readonly class?: string
}

export interface TableProps {
  /** For the region that can be scrolled. */
  readonly label: string
  readonly columns: readonly Column[]
  readonly children: ComponentChildren
  /** Instead of a table without rows. */
  readonly empty?: string
  readonly isEmpty?: boolean
  readonly class?: string
}

/** A table on a card, which scrolls by keyboard too where it is wider than the page. */
export function Table(props: TableProps): View {
  const { label, columns, children, empty = 'Nothing yet.', isEmpty = false } = props
  if (isEmpty) return html`<p class="card empty">${empty}</p>`
  return html`<div class="card table" tabindex="0" role="region" aria-label=${label}>
    <table class=${props.class}>
      <thead>
        <tr>${columns.map(({ title, class: name }) => html`<th key=${title} scope="col" class=${name}>${title}</th>`)}</tr>
      </thead>
      <tbody>${children}</tbody>
    </table>
  </div>`
}
