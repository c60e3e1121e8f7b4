import { useEffect, useState } from 'preact/hooks'
import { queryString } from '../lib/api.ts'
import { h, html, type View } from '../lib/html.ts'
import { go, usePlace } from '../lib/route.ts'
import { PageHead } from '../ui/page-head.ts'
import { AuditTrail } from './audit-trail.ts'

/** Typing rests for so long before the trail is asked for. */
const TYPING_MS = 300

/** Who did what, in the whole installation. */
export function AuditPage(): View {
  const { query } = usePlace()
  const filter = { actor: query.get('actor') ?? '', action: query.get('action') ?? '' }
  const [typed, setTyped] = useState(filter)
  useEffect(() => {
    if (typed.actor === filter.actor && typed.action === filter.action) return
    const timer = setTimeout(
      () => go(`/audit${queryString(typed)}`, { isReplaced: true }),
      TYPING_MS,
    )
    return () => clearTimeout(timer)
  }, [typed.actor, typed.action])
  const input = (
    name: 'actor' | 'action',
    label: string,
    example: string,
  ) => html`<label class="inline">
    <span class="hidden">${label}</span>
    <input
      type="search"
      placeholder=${`${label}, such as ${example}`}
      value=${typed[name]}
      maxlength="64"
      autocomplete="off"
      spellcheck=${false}
      onInput=${(event: Event) => setTyped({ ...typed, [name]: (event.currentTarget as HTMLInputElement).value.trim() })}
    />
  </label>`
  return html`
    ${h(PageHead, { title: 'Audit', children: html`<p class="hint">Who did what, the newest first.</p>` })}
    <form class="filters" role="search" onSubmit=${(event: Event) => event.preventDefault()}>
      ${input('actor', 'Who', 'ADMIN_API_KEY')}
      ${input('action', 'What', 'tenant.suspend')}
    </form>
    ${h(AuditTrail, { path: '/audit', filter, isOfOneTenant: false })}
  `
}
