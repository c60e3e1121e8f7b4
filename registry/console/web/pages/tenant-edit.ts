import { useState } from 'preact/hooks'
import type { TenantItem } from '../../../admin/item.ts'
import type { ConnectionReport as Report } from '../../../admin/probe.ts'
import { type Answer, ApiError, call } from '../lib/api.ts'
import { useForm, useSaving, type Values } from '../lib/form.ts'
import { h, html, type View } from '../lib/html.ts'
import { notify } from '../lib/notice.ts'
import { usePolled } from '../lib/poll.ts'
import { go, Link } from '../lib/route.ts'
import { useMay } from '../lib/session.ts'
import { ConnectionReport } from '../ui/connection-report.ts'
import { Failure } from '../ui/failure.ts'
import { Check } from '../ui/field.ts'
import { PageHead } from '../ui/page-head.ts'
import {
  BASICS,
  BUCKET,
  bodyOf,
  DATABASE,
  NAMES,
  PLACE_NAMES,
  TenantFields,
  TOKENS,
} from './tenant-fields.ts'
import { LimitFields, limitsOf, limitValues } from './tenant-limits.ts'

/** The tenant is read once: what others change meanwhile must not move under who is typing. */
export function TenantEdit({ id }: { id: string }): View {
  const may = useMay()
  const read = usePolled<Answer<TenantItem>>(`edit ${id}`, null, signal =>
    call<TenantItem>(`/tenants/${encodeURIComponent(id)}`, { signal }),
  )
  if (!may.operate) return h(PageHead, { title: 'Your key may not change tenants' })
  if (read.data === null) {
    return read.error === null
      ? html`<div class="card" aria-busy="true"></div>`
      : h(Failure, { error: read.error, onRetry: read.reload })
  }
  return h(Editor, { read: read.data })
}

function Editor({ read }: { read: Answer<TenantItem> }): View {
  /** The version that the changes are made to; another one after a conflict. */
  const [base, setBase] = useState(read)
  const [theirs, setTheirs] = useState<readonly string[]>([])
  const form = useForm(valuesOf(read.result))
  const [report, setReport] = useState<Report | null>(null)
  const [isTested, setIsTested] = useState(true)
  const { isBusy, run } = useSaving(form)
  const { id, tenant_key: key } = base.result
  const changed = changedNames(valuesOf(base.result), form.values)
  const change = () => {
    const body = bodyOf(form, changed)
    if (changed.some(name => name.startsWith('limits.'))) body.limits = limitsOf(form)
    return body
  }
  /** Reads what the other one saved; what was typed here stays, and what was not follows the other. */
  const onConflict = async () => {
    const fresh = await call<TenantItem>(`/tenants/${id}`)
    const before = valuesOf(base.result)
    const after = valuesOf(fresh.result)
    const moved = changedNames(before, after)
    form.setAll({
      ...after,
      ...Object.fromEntries(changed.map(name => [name, form.values[name] ?? ''])),
    })
    setTheirs(moved)
    setBase(fresh)
  }
  const save = () =>
    run(async () => {
      const body = { ...change(), ...(!isTested && { verify: false }) }
      try {
        await call(`/tenants/${id}`, { method: 'PATCH', body, ifMatch: base.etag })
      } catch (error) {
        if (error instanceof ApiError && error.status === 412) await onConflict()
        throw error
      }
      notify(`${key} is changed.`)
      go(`/tenants/${id}`)
    })
  const test = () =>
    run(async () => {
      setReport(null)
      const body = bodyOf(
        form,
        changed.filter(name => PLACE_NAMES.includes(name)),
      )
      const { result } = await call<Report>(`/tenants/${id}/test-connection`, {
        method: 'POST',
        body,
      })
      setReport(result)
    })
  const onSubmit = (event: Event) => {
    event.preventDefault()
    save()
  }
  return html`
    <p class="hint crumbs">
      ${h(Link, { to: '/tenants', children: 'Tenants' })} / ${h(Link, { to: `/tenants/${id}`, children: key })} /
    </p>
    ${h(PageHead, { title: `Edit ${key}` })}
    <form noValidate onSubmit=${onSubmit}>
      ${form.error === null ? null : h(Failure, { error: form.error })}
      ${theirs.length === 0 ? null : h(Conflict, { theirs, mine: changed, tenant: base.result })}
      ${h(TenantFields, { title: 'Basics', fields: BASICS, form })}
      ${h(TenantFields, { title: 'Database', fields: DATABASE, form, keptSecrets: true })}
      ${h(TenantFields, { title: 'Bucket', fields: BUCKET, form, keptSecrets: true })}
      ${h(LimitFields, { form })}
      ${h(TenantFields, { title: 'Tokens of an issuer of its own', fields: TOKENS, form })}
      ${h(ConnectionReport, { report })}
      ${h(Check, {
        label: 'Test new connection details before saving',
        isOn: isTested,
        onChange: setIsTested,
      })}
      <div class="buttons">
        <button type="submit" class="primary" disabled=${isBusy || changed.length === 0}>${isBusy ? 'One moment…' : 'Save'}</button>
        <button type="button" disabled=${isBusy} onClick=${test}>Test the connection</button>
        ${h(Link, { to: `/tenants/${id}`, class: 'button', children: 'Cancel' })}
      </div>
    </form>
  `
}

interface ConflictProps {
  readonly theirs: readonly string[]
  readonly mine: readonly string[]
  readonly tenant: TenantItem
}

function Conflict({ theirs, mine, tenant }: ConflictProps): View {
  const values = valuesOf(tenant)
  return html`<div class="failure" role="alert">
    <p>Somebody else has changed this tenant. What you typed is still here; saving again puts it over theirs.</p>
    <ul>
      ${theirs.map(
        name =>
          html`<li key=${name}><code>${name}</code> is now “${values[name] ?? ''}”${mine.includes(name) ? ', and you have changed it too' : ''}</li>`,
      )}
    </ul>
  </div>`
}

function valuesOf(tenant: TenantItem): Values {
  const own = tenant as unknown as Record<string, unknown>
  const texts = NAMES.map(name => [name, own[name] == null ? '' : String(own[name])] as const)
  return { ...Object.fromEntries(texts), ...limitValues(tenant.limits) }
}

function changedNames(before: Values, after: Values): string[] {
  return [...new Set([...Object.keys(before), ...Object.keys(after)])].filter(
    name => (before[name] ?? '') !== (after[name] ?? ''),
  )
}
