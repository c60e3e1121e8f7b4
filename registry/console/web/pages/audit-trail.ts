import { useEffect, useRef, useState } from 'preact/hooks'
import type { AuditItem, AuditPage } from '../../../admin/audit.ts'
import { ApiError, call, queryString } from '../lib/api.ts'
import { DASH, time } from '../lib/format.ts'
import { h, html, type View } from '../lib/html.ts'
import { Link } from '../lib/route.ts'
import { Failure } from '../ui/failure.ts'
import { Badge } from '../ui/status.ts'

const ROWS = 50

export interface AuditTrailProps {
  /** Of the API. */
  readonly path: string
  readonly isOfOneTenant: boolean
  readonly filter?: Readonly<Record<string, string>>
}

/** Who did what, page after page below each other. */
export function AuditTrail({ path, isOfOneTenant, filter = {} }: AuditTrailProps): View {
  const [items, setItems] = useState<readonly AuditItem[]>([])
  const [next, setNext] = useState<string | null>('')
  const [error, setError] = useState<ApiError | null>(null)
  const [isBusy, setIsBusy] = useState(false)
  /** Ends with the filter: what it has asked for is none of the next one's. */
  const asking = useRef(new AbortController())
  const load = async (cursor: string) => {
    const { signal } = asking.current
    setIsBusy(true)
    setError(null)
    try {
      const { result } = await call<AuditPage>(
        `${path}${queryString({ ...filter, limit: ROWS, cursor })}`,
        {
          signal,
        },
      )
      setItems(now => (cursor === '' ? result.items : [...now, ...result.items]))
      setNext(result.next_cursor)
    } catch (failure) {
      if (failure instanceof ApiError && !signal.aborted) setError(failure)
    } finally {
      if (!signal.aborted) setIsBusy(false)
    }
  }
  useEffect(() => {
    const gone = new AbortController()
    asking.current = gone
    void load('')
    return () => gone.abort()
  }, [path, JSON.stringify(filter)])
  const columns = isOfOneTenant ? 4 : 5
  return html`
    ${error === null ? null : h(Failure, { error, onRetry: () => void load(next ?? '') })}
    <div class="card table" tabindex="0" role="region" aria-label="Audit trail"><table class="audit">
      <thead><tr>
        <th scope="col">When</th><th scope="col">Who</th><th scope="col">What</th>
        ${isOfOneTenant ? null : html`<th scope="col">Tenant</th>`}
        <th scope="col">Change</th>
      </tr></thead>
      <tbody>
        ${items.map(item => h(AuditRow, { key: item.id, item, isOfOneTenant }))}
        ${items.length === 0 ? html`<tr><td colspan=${columns} class="hint">${isBusy ? 'Loading…' : 'Nothing yet.'}</td></tr>` : null}
      </tbody>
    </table></div>
    ${
      next === null || items.length === 0
        ? null
        : html`<div class="pages"><button type="button" disabled=${isBusy} onClick=${() => load(next)}>Older</button></div>`
    }
  `
}

function AuditRow({ item, isOfOneTenant }: { item: AuditItem; isOfOneTenant: boolean }): View {
  return html`<tr>
    <td class="when">${time(item.at)}</td>
    <td>${item.actor}</td>
    <td>
      <code>${item.action}</code> ${item.outcome === 'done' ? null : h(Badge, { text: item.outcome, tone: 'bad' })}
      ${item.reason === null ? null : html`<span class="reason">“${item.reason}”</span>`}
    </td>
    ${
      isOfOneTenant
        ? null
        : html`<td>${
            item.tenant_id === null
              ? DASH
              : h(Link, {
                  to: `/tenants/${item.tenant_id}`,
                  children: item.tenant_key ?? item.tenant_id,
                })
          }</td>`
    }
    <td>${h(Changes, { item })}</td>
  </tr>`
}

/** What was and what is, name by name; values are shown as the audit has them. */
function Changes({ item: { before, after } }: { item: AuditItem }): View {
  const old = Object(before) as Record<string, unknown>
  const fresh = Object(after) as Record<string, unknown>
  const names = [...new Set([...Object.keys(old), ...Object.keys(fresh)])]
  if (names.length === 0) return html`<span class="hint">${DASH}</span>`
  return html`<details>
    <summary>${names.slice(0, 3).join(', ')}${names.length > 3 ? ` and ${names.length - 3} more` : ''}</summary>
    <dl class="changes">
      ${names.map(
        name => html`<div key=${name}>
          <dt>${name}</dt>
          <dd>${name in old ? html`<del>${shown(old[name])}</del> ` : null}${name in fresh ? html`<ins>${shown(fresh[name])}</ins>` : null}</dd>
        </div>`,
      )}
    </dl>
  </details>`
}

function shown(value: unknown): string {
  return typeof value === 'string' ? value : JSON.stringify(value)
}
