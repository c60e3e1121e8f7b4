import { h, html, type View } from '../lib/html.ts'
import { PageHead } from '../ui/page-head.ts'
import { AuditTrail } from './audit-trail.ts'

export function AuditPage(): View {
  return html`
    ${h(PageHead, { title: 'Audit', children: html`<p class="hint">Who did what, the newest first.</p>` })}
    ${h(AuditTrail, { path: '/audit', isOfOneTenant: false })}
  `
}
