import { useState } from 'preact/hooks'
import type { DatabaseHostItem } from '../../../admin/database-hosts.ts'
import type { ConnectionReport as Report } from '../../../admin/probe.ts'
import { type ApiError, call } from '../lib/api.ts'
import { type Form, newKey, textOrNull, useForm, useSaving } from '../lib/form.ts'
import { h, html, type View } from '../lib/html.ts'
import { notify } from '../lib/notice.ts'
import { usePolled } from '../lib/poll.ts'
import { go, Link } from '../lib/route.ts'
import { useMay } from '../lib/session.ts'
import { ConnectionReport } from '../ui/connection-report.ts'
import { Failure } from '../ui/failure.ts'
import { Check, Field } from '../ui/field.ts'
import { PageHead } from '../ui/page-head.ts'
import {
  BASICS,
  BUCKET,
  bodyOf,
  DATABASE,
  NAMES,
  PLACE_NAMES,
  TenantFields,
} from './tenant-fields.ts'

type Way = 'provision' | 'register'

const WAYS = [
  [
    'provision',
    'Make it',
    'Role, database, schema and first user are made on one of your database hosts.',
  ],
  [
    'register',
    'Register it',
    'Its database exists already; the connection is tested before it is saved.',
  ],
] as const

const KEY_HINT = 'a–z, 0–9, - and _; users sign in with it, and it stays as it is.'
const REGISTERED = ['db_host', 'db_name', 'db_user', 'db_password'] as const

/** A new tenant: from nothing, or over a database that exists. */
export function TenantCreate(): View {
  const may = useMay()
  const hosts = usePolled('hosts', null, async signal => {
    const { result } = await call<{ items: readonly DatabaseHostItem[] }>('/database-hosts', {
      signal,
    })
    return result.items
  })
  const [chosen, setWay] = useState<Way | null>(null)
  // What may be begun at once is offered first.
  const way = chosen ?? (hosts.data?.length === 0 ? 'register' : 'provision')
  const form = useForm({ mode: 'shared' })
  const [made, setMade] = useState<Made | null>(null)
  if (!may.operate) return h(PageHead, { title: 'Your key may not add tenants' })
  if (made !== null) return h(FirstPassword, { made })
  // Until it is known which way is offered: a form that changes takes focus from who types in it.
  const isAsking = chosen === null && hosts.data === null && hosts.error === null
  return html`
    <p class="hint crumbs">${h(Link, { to: '/tenants', children: 'Tenants' })} /</p>
    ${h(PageHead, { title: 'Add a tenant' })}
    <fieldset class="ways">
      <legend class="hidden">How</legend>
      ${WAYS.map(
        ([
          value,
          title,
          text,
        ]) => html`<label key=${value} class=${value === way ? 'way chosen' : 'way'}>
          <input type="radio" name="way" checked=${value === way} onChange=${() => setWay(value)} />
          <span><strong>${title}</strong><span class="hint">${text}</span></span>
        </label>`,
      )}
    </fieldset>
    ${
      isAsking
        ? html`<div class="card" aria-busy="true"></div>`
        : way === 'register'
          ? h(Register, { form })
          : h(Provision, { form, hosts: hosts.data, hostsError: hosts.error, onMade: setMade })
    }
  `
}

function Register({ form }: { form: Form }): View {
  const [report, setReport] = useState<Report | null>(null)
  const [isTested, setIsTested] = useState(true)
  const { isBusy, run } = useSaving(form)
  // The same until the form goes: an answer that was lost makes no second tenant.
  const [once] = useState(newKey)
  const test = () =>
    run(async () => {
      setReport(null)
      const { result } = await call<Report>('/test-connection', {
        method: 'POST',
        body: withoutNulls(bodyOf(form, PLACE_NAMES)),
      })
      setReport(result)
    })
  const save = () =>
    run(async () => {
      const body = {
        tenant_key: form.values.tenant_key?.trim() ?? '',
        ...withoutNulls(bodyOf(form, NAMES)),
        ...(!isTested && { verify: false }),
      }
      const { result } = await call<{ id: string }>('/tenants', {
        ...{ method: 'POST', body, idempotencyKey: once },
      })
      notify(`${body.tenant_key} is registered.`)
      go(`/tenants/${result.id}`)
    })
  return html`<form noValidate onSubmit=${submitting(save)}>
    ${form.error === null ? null : h(Failure, { error: form.error })}
    ${h(KeyField, { form })}
    ${h(TenantFields, { title: 'Basics', fields: BASICS, form })}
    ${h(TenantFields, { title: 'Database', fields: DATABASE, form, required: REGISTERED })}
    ${h(TenantFields, { title: 'Bucket', fields: BUCKET, form })}
    ${h(ConnectionReport, { report })}
    ${h(Check, {
      label: 'Test the connections before saving',
      isOn: isTested,
      onChange: setIsTested,
      hint: 'Without it a wrong password is found by the first user.',
    })}
    <div class="buttons">
      <button type="submit" class="primary" disabled=${isBusy}>${isBusy ? 'One moment…' : 'Register'}</button>
      <button type="button" disabled=${isBusy} onClick=${test}>Test the connection</button>
    </div>
  </form>`
}

interface Made {
  readonly id: string
  readonly key: string
  readonly email: string
  readonly password: string
}

interface ProvisionProps {
  readonly form: Form
  readonly hosts: readonly DatabaseHostItem[] | null
  readonly hostsError: ApiError | null
  readonly onMade: (made: Made) => void
}

const MADE = ['name', 'mode', 'plan', 'app_url', ...BUCKET.map(({ name }) => name)]

function Provision({ form, hosts, hostsError, onMade }: ProvisionProps): View {
  const { isBusy, run } = useSaving(form)
  // The same until the form goes: an answer that was lost makes no second tenant.
  const [once] = useState(newKey)
  const host = form.values['provision.host'] ?? hosts?.[0]?.name ?? ''
  const save = () =>
    run(async () => {
      const { values } = form
      const key = values.tenant_key?.trim() ?? ''
      const email = textOrNull(values['provision.admin.email'])
      const password = values['provision.admin.password']
      const name = textOrNull(values['provision.admin.name'])
      const admin =
        email === null
          ? null
          : { email, ...(name !== null && { name }), ...(password && { password }) }
      const { result } = await call<{ tenant_id: string; admin_password: string | null }>(
        '/tenants',
        {
          method: 'POST',
          idempotencyKey: once,
          body: {
            tenant_key: key,
            ...withoutNulls(bodyOf(form, MADE)),
            provision: { host, admin },
          },
        },
      )
      const { tenant_id: id, admin_password: made } = result
      if (made === null || email === null) go(`/tenants/${id}`)
      else onMade({ id, key, email, password: made })
    })
  if (hostsError !== null) return h(Failure, { error: hostsError })
  if (hosts?.length === 0) {
    return html`<p class="card">
      No database host is known yet. Add one by <code>tenant -- host-add</code> or <code>POST /api/admin/database-hosts</code>, or register a tenant whose database exists.
    </p>`
  }
  return html`<form noValidate onSubmit=${submitting(save)}>
    ${form.error === null ? null : h(Failure, { error: form.error })}
    ${h(KeyField, { form })}
    ${h(TenantFields, { title: 'Basics', fields: BASICS, form })}
    <fieldset class="card">
      <legend>Where, and for whom</legend>
      <div class="fields">
        ${h(Field, {
          label: 'Database host',
          ...form.bind('provision.host'),
          value: host,
          options: (hosts ?? []).map(
            one => [one.name, `${one.name} (${one.host}, ${one.tenants} tenants)`] as const,
          ),
        })}
        ${h(Field, { label: 'Email of the first user', ...form.bind('provision.admin.email'), type: 'email', hint: 'Empty: none is made.' })}
        ${h(Field, { label: 'Name of the first user', ...form.bind('provision.admin.name') })}
        ${h(Field, {
          label: 'Password of the first user',
          ...form.bind('provision.admin.password'),
          ...{ type: 'password' as const, autocomplete: 'new-password', isMono: true },
          hint: 'Empty: one is made and shown once.',
        })}
      </div>
    </fieldset>
    ${h(TenantFields, { title: 'Bucket', fields: BUCKET, form })}
    <div class="buttons">
      <button type="submit" class="primary" disabled=${isBusy || host === ''}>${isBusy ? 'One moment…' : 'Make the tenant'}</button>
    </div>
  </form>`
}

/** A password that was made up is shown this once. */
function FirstPassword({ made }: { made: Made }): View {
  return html`
    ${h(PageHead, { title: `${made.key} is being made` })}
    <section class="card">
      <p>The first user signs in with this password. Nobody can read it again.</p>
      <dl class="facts">
        <div><dt>Email</dt><dd>${made.email}</dd></div>
        <div><dt>Password</dt><dd><code class="once">${made.password}</code></dd></div>
      </dl>
      <div class="buttons">${h(Link, { to: `/tenants/${made.id}`, class: 'button primary', children: 'I have noted it' })}</div>
    </section>
  `
}

function KeyField({ form }: { form: Form }): View {
  return html`<fieldset class="card"><legend>Key</legend><div class="fields">
    ${h(Field, { label: 'Tenant key', ...form.bind('tenant_key'), hint: KEY_HINT, isRequired: true, isMono: true, charsMax: 63 })}
  </div></fieldset>`
}

function submitting(work: () => void) {
  return (event: Event) => {
    event.preventDefault()
    work()
  }
}

function withoutNulls(body: Record<string, unknown>): Record<string, unknown> {
  return Object.fromEntries(Object.entries(body).filter(([, value]) => value !== null))
}
