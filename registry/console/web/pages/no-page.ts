import { h, html, type View } from '../lib/html.ts'
import { Link } from '../lib/route.ts'
import { PageHead } from '../ui/page-head.ts'

export function NoPage(): View {
  return html`
    ${h(PageHead, { title: 'There is no such page' })}
    <p>${h(Link, { to: '/tenants', children: 'All tenants' })}</p>
  `
}
