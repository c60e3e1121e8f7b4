import { h, html, type View } from '../lib/html.ts'
import { Link } from '../lib/route.ts'

export interface TabsProps {
  readonly label: string
  /** Path of the first tab; the others are below it. */
  readonly base: string
  readonly tabs: readonly (readonly [path: string, title: string])[]
  readonly current: string
}

/** Parts of a page, each with an address of its own. */
export function Tabs({ label, base, tabs, current }: TabsProps): View {
  return html`<nav class="tabs" aria-label=${label}>
    ${tabs.map(([path, title]) =>
      h(Link, {
        key: path,
        to: path === '' ? base : `${base}/${path}`,
        isCurrent: path === current,
        children: title,
      }),
    )}
  </nav>`
}
