import { useEffect, useRef, useState } from 'preact/hooks'
import type { TenantPage } from '../../../admin/list.ts'
import { call, queryString } from '../lib/api.ts'
import { count } from '../lib/format.ts'
import { h, html, type View } from '../lib/html.ts'
import { usePolled } from '../lib/poll.ts'
import { go, Link, usePlace } from '../lib/route.ts'
import { useMay } from '../lib/session.ts'
import { type Traffic, useTraffic } from '../lib/traffic.ts'
import { Failure } from '../ui/failure.ts'
import { PageHead } from '../ui/page-head.ts'
import { type Asked, TenantDialogs } from './tenant-actions.ts'
import { TenantRow } from './tenant-row.ts'
import { TenantsTrouble } from './tenants-trouble.ts'

const PAGE_ROWS = 50
const LIST_MS = 15_000
/** Typing rests for so long before the list is asked for. */
const TYPING_MS = 250

/** In the browser's history: the page before is the one before in the list. A link that was shared has none. */
const BY_NEXT = 'next'

const MODES = ['shared', 'dedicated'] as const
const STATUSES = ['active', 'provisioning', 'maintenance', 'suspended', 'archived'] as const

interface Filter {
  readonly q: string
  readonly mode: string
  readonly status: string
  readonly sort: string
  readonly cursor: string
}

/** Tenants, a page of them, with the traffic of those that are shown. */
export function TenantsPage(): View {
  const { query } = usePlace()
  const may = useMay()
  const filter: Filter = {
    q: query.get('q') ?? '',
    mode: query.get('mode') ?? '',
    status: query.get('status') ?? '',
    sort: query.get('sort') ?? 'tenant_key',
    cursor: query.get('cursor') ?? '',
  }
  const search = queryString({ ...filter, sort: filter.sort, limit: PAGE_ROWS })
  const list = usePolled(search, LIST_MS, async (signal, isPoll) => {
    const { result } = await call<TenantPage>(`/tenants${search}`, { signal, isPoll })
    return result
  })
  const kept = useKept(list.data)
  // Not the row's: what is typed must not go with a row that goes.
  const [asked, setAsked] = useState<Asked | null>(null)
  const items = kept?.items ?? []
  const ids = items.map(({ id }) => id).join()
  const { traffic, isLost } = useTraffic(ids)
  const change: FilterProps['change'] = (next, how = {}) => {
    const { sort, ...rest } = { ...filter, cursor: '', ...next }
    go(`/tenants${queryString({ ...rest, sort: sort === 'tenant_key' ? '' : sort })}`, how)
  }
  return html`
    ${h(PageHead, {
      title: 'Tenants',
      aside: may.operate
        ? h(Link, { to: '/tenants/new', class: 'button primary', children: 'Add a tenant' })
        : null,
      children: html`<p class="hint" aria-live="polite">${countText(kept, list.isLoading)}</p>`,
    })}
    ${h(TenantsTrouble, {})}
    ${h(Filters, { filter, change })}
    ${list.error === null ? null : h(Failure, { error: list.error, onRetry: list.reload })}
    ${h(Table, { page: kept, traffic, filter, change, isPulseLost: isLost, ask: setAsked })}
    ${h(Pages, { page: kept, filter, change })}
    ${asked === null ? null : h(TenantDialogs, { asked, onChanged: list.reload, onClose: () => setAsked(null) })}
  `
}

/** The page before stays until the next one is there: a table that vanishes at each letter cannot be read. */
function useKept<T>(data: T | null): T | null {
  const [kept, setKept] = useState<T | null>(data)
  useEffect(() => {
    if (data !== null) setKept(data)
  }, [data])
  return data ?? kept
}

function countText(page: TenantPage | null, isLoading: boolean): string {
  if (page === null) return isLoading ? 'Loading…' : ''
  return page.total === 1 ? '1 tenant' : `${count(page.total)} tenants`
}

interface FilterProps {
  readonly filter: Filter
  readonly change: (next: Partial<Filter>, how?: { isReplaced?: boolean; state?: string }) => void
}

function Filters({ filter, change }: FilterProps): View {
  const [q, setQ] = useState(filter.q)
  // What else was chosen while the typing rested.
  const latest = useRef(change)
  latest.current = change
  // What came from here does not go back over a letter that was typed since.
  const sent = useRef(filter.q)
  useEffect(() => {
    if (filter.q !== sent.current) setQ(filter.q)
    sent.current = filter.q
  }, [filter.q])
  useEffect(() => {
    if (q === filter.q) return
    const timer = setTimeout(() => {
      sent.current = q
      latest.current({ q }, { isReplaced: true })
    }, TYPING_MS)
    return () => clearTimeout(timer)
  }, [q])
  const select = (name: 'mode' | 'status', label: string, all: string, words: readonly string[]) =>
    html`<label class="inline">
      <span class="hidden">${label}</span>
      <select
        value=${filter[name]}
        onChange=${(event: Event) => change({ [name]: (event.currentTarget as HTMLSelectElement).value })}
      >
        <option value="">${all}</option>
        ${words.map(word => html`<option key=${word} value=${word}>${word}</option>`)}
      </select>
    </label>`
  return html`<form class="filters" role="search" onSubmit=${(event: Event) => event.preventDefault()}>
    <label class="inline grow">
      <span class="hidden">Search tenants</span>
      <input
        type="search"
        placeholder="Key, name, database, bucket or id"
        value=${q}
        maxlength="128"
        spellcheck=${false}
        autocomplete="off"
        onInput=${(event: Event) => setQ((event.currentTarget as HTMLInputElement).value)}
      />
    </label>
    ${select('status', 'Status', 'Any status', STATUSES)}
    ${select('mode', 'Mode', 'Any mode', MODES)}
    ${
      filter.q || filter.mode || filter.status
        ? html`<button type="button" onClick=${() => change({ q: '', mode: '', status: '' })}>Clear</button>`
        : null
    }
  </form>`
}

interface TableProps extends FilterProps {
  readonly page: TenantPage | null
  readonly traffic: ReadonlyMap<string, Traffic>
  readonly isPulseLost: boolean
  readonly ask: (asked: Asked) => void
}

/** Columns that the list can be sorted by, and those of the traffic, which it cannot. */
const COLUMNS = [
  { title: 'Tenant', sort: 'tenant_key', class: '' },
  { title: 'Status', sort: 'status', class: 'mid' },
  { title: 'Mode', sort: 'mode', class: 'wide-only' },
  { title: 'Requests/s', sort: null, class: 'traffic' },
  { title: 'Errors', sort: null, class: 'traffic' },
  { title: 'p99', sort: null, class: 'traffic mid' },
  { title: 'Database', sort: null, class: 'wide-only' },
  { title: 'Schema', sort: null, class: 'widest-only' },
  { title: 'Changed', sort: 'updated_at', class: 'widest-only' },
] as const

function Table({ page, traffic, filter, change, isPulseLost, ask }: TableProps): View {
  const may = useMay()
  if (page === null) return html`<div class="card" aria-busy="true"></div>`
  if (page.items.length === 0) {
    return html`<p class="card empty">No tenant matches.</p>`
  }
  const head = COLUMNS.map(({ title, sort, class: name }) => {
    if (sort === null) return html`<th scope="col" class=${name}>${title}</th>`
    const isUp = filter.sort === sort
    const isDown = filter.sort === `-${sort}`
    const state = isUp ? 'ascending' : isDown ? 'descending' : undefined
    return html`<th scope="col" class=${name} aria-sort=${state}>
      <button type="button" class="sort" onClick=${() => change({ sort: isUp ? `-${sort}` : sort })}>
        ${title}<span aria-hidden="true">${isUp ? ' ▲' : isDown ? ' ▼' : ''}</span>
      </button>
    </th>`
  })
  return html`<div class="card table unclipped">
    <table class="tenants">
      <caption class="hidden">Tenants with their traffic of the last five minutes</caption>
      <thead>
        <tr>
          ${head}
          ${may.operate ? html`<th scope="col" class="end"><span class="hidden">Actions</span></th>` : null}
        </tr>
      </thead>
      <tbody>
        ${page.items.map(tenant =>
          h(TenantRow, {
            key: tenant.id,
            ...{ tenant, traffic: traffic.get(tenant.id) ?? null, isPulseLost, ask },
          }),
        )}
      </tbody>
    </table>
  </div>`
}

function Pages({ page, filter, change }: FilterProps & { page: TenantPage | null }): View | null {
  if (page === null || (page.next_cursor === null && filter.cursor === '')) return null
  const { next_cursor: next } = page
  return html`<nav class="pages" aria-label="Pages of the list">
    <button type="button" disabled=${filter.cursor === ''} onClick=${() => change({ cursor: '' })}>First</button>
    <button type="button" disabled=${filter.cursor === '' || history.state !== BY_NEXT} onClick=${() => history.back()}>Previous</button>
    <button type="button" disabled=${next === null} onClick=${() => change({ cursor: next ?? '' }, { state: BY_NEXT })}>Next</button>
  </nav>`
}
