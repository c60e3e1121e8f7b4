import { useState } from 'preact/hooks'
import type { RunItem } from '../../../admin/migration-runs.ts'
import type { FleetSummary } from '../../../admin/migration-summary.ts'
import { call } from '../lib/api.ts'
import { numberOrNull, textOrNull, useForm, type Values } from '../lib/form.ts'
import { count, orDash } from '../lib/format.ts'
import { h, html, type View } from '../lib/html.ts'
import { Check, Field } from '../ui/field.ts'
import { FormDialog } from '../ui/form-dialog.ts'

export interface MigrationStartProps {
  readonly summary: FleetSummary
  readonly onClose: () => void
  readonly onStarted: (id: string) => void
}

const DEFAULTS: Values = {
  ...{ tenants: '', to: '', concurrency: '8', per_host: '2', canary: '1', max_failures: '2%' },
  ...{ rate_per_minute: '', retries: '3' },
}

/** Options first, then what comes of them in words; only that starts it. */
export function MigrationStart({ summary, onClose, onStarted }: MigrationStartProps): View {
  const form = useForm(DEFAULTS)
  const [withSuspended, setWithSuspended] = useState(true)
  const [withDedicated, setWithDedicated] = useState(false)
  const [isLaggards, setIsLaggards] = useState(false)
  const [isAsked, setIsAsked] = useState(false)
  const names = namesOf(form.values.tenants)
  const body = {
    tenants: names.length === 0 ? null : names,
    to: textOrNull(form.values.to),
    concurrency: numberOrNull(form.values.concurrency),
    per_host: numberOrNull(form.values.per_host),
    canary: numberOrNull(form.values.canary),
    max_failures: textOrNull(form.values.max_failures),
    rate_per_minute: numberOrNull(form.values.rate_per_minute),
    retries: numberOrNull(form.values.retries),
    ...{ include_suspended: withSuspended, include_dedicated: withDedicated, laggards: isLaggards },
  }
  const run = async () => {
    if (!isAsked) {
      setIsAsked(true)
      return null
    }
    try {
      const { result, message } = await call<RunItem>('/migrations/runs', { method: 'POST', body })
      onStarted(result.id)
      return message
    } catch (error) {
      setIsAsked(false)
      throw error
    }
  }
  const number = (name: string, label: string, hint?: string) =>
    h(Field, { label, hint, type: 'number', ...form.bind(name) })
  const options = html`
    ${h(Field, {
      ...{ label: 'Tenants', lines: 2, isMono: true, isFocused: true },
      hint: 'Keys or ids, by commas or lines. Empty: the fleet.',
      ...form.bind('tenants'),
    })}
    <div class="fields">
      ${h(Field, { label: 'To version', placeholder: orDash(summary.target), hint: 'Empty: the newest of this release.', charsMax: 4, ...form.bind('to') })}
      ${number('canary', 'First wave', 'So many tenants are done before the others begin; 0: no such wave.')}
      ${h(Field, { label: 'Stop after failures', hint: 'A count, or a share such as 2%. Empty: never.', ...form.bind('max_failures') })}
      ${number('concurrency', 'At a time')}
      ${number('per_host', 'At a time on one server')}
      ${number('rate_per_minute', 'Tenants a minute', 'Empty: as fast as it goes.')}
      ${number('retries', 'Tries more', 'Of what may pass: locks, connections.')}
    </div>
    ${h(Check, { label: 'Suspended tenants too', isOn: withSuspended, onChange: setWithSuspended })}
    ${h(Check, { label: 'Dedicated tenants too', isOn: withDedicated, onChange: setWithDedicated })}
    ${h(Check, { label: 'Only those that are behind', isOn: isLaggards, onChange: setIsLaggards })}
  `
  return h(FormDialog, {
    title: isAsked ? 'Start this run?' : 'Start a run',
    verb: isAsked ? 'Start the run' : 'Go on',
    ...(isAsked ? { leave: 'Back', onLeave: () => setIsAsked(false) } : { leave: 'Close' }),
    ...{ isWide: true, form, run, onClose },
    children: isAsked ? h(Consequence, { body, summary }) : options,
  })
}

interface Wanted {
  readonly tenants: readonly string[] | null
  readonly to: string | null
  readonly canary: number | string | null
  readonly max_failures: string | null
  readonly include_dedicated: boolean
}

function Consequence({ body, summary }: { body: Wanted; summary: FleetSummary }): View {
  const { tenants, canary } = body
  const whom =
    tenants === null
      ? `all tenants of the fleet (up to ${count(summary.tenants)}${body.include_dedicated ? ', dedicated ones too' : ''})`
      : tenants.length === 1
        ? `the tenant ${tenants[0]}`
        : `${count(tenants.length)} tenants`
  const first = canary === 0 || canary === null ? '' : ` ${canary} of them are done first.`
  const stop =
    body.max_failures === null
      ? ' It goes on however many fail.'
      : ` It stops after ${body.max_failures} failures.`
  return html`<p role="alert">The databases of ${whom} are migrated to ${body.to ?? orDash(summary.target)}.${first}${stop} Migrations go forward only.</p>`
}

function namesOf(text: string | undefined): string[] {
  return (text ?? '').split(/[\s,]+/).filter(Boolean)
}
