import { useEffect, useRef, useState } from 'preact/hooks'
import type { Moved } from '../../../admin/move.ts'
import type { MoveEvents } from '../../../admin/move-stream.ts'
import { ApiError, call } from '../lib/api.ts'
import { readEvents } from '../lib/events.ts'
import { numberOrNull, textOrNull, useForm } from '../lib/form.ts'
import { many } from '../lib/format.ts'
import { h, html, type View } from '../lib/html.ts'
import { Field } from '../ui/field.ts'
import { FormDialog } from '../ui/form-dialog.ts'
import { ReasonField, type TenantDialogProps } from './action-dialog.ts'
import { MoveReport, MoveSteps, type Told } from './move-report.ts'

type Phase = 'form' | 'asked' | 'moving'

/** A dry run says that it takes so long only where a database does not answer. */
const DRY_RUN_MS = 120_000

/** Where to, then whether it can be done, then step by step how it goes, and what it came to. */
export function MoveDialog({ tenant, etag, onChanged, onClose }: TenantDialogProps): View {
  const { id, tenant_key: key, db_name: name, db_user: user } = tenant
  const form = useForm({
    ...{ db_host: '', db_port: '5432', db_name: name ?? '', db_user: user ?? '' },
    ...{ db_password: '', db_ssl_mode: 'as it is', seconds: '30', reason: '' },
  })
  const [phase, setPhase] = useState<Phase>('form')
  const [dry, setDry] = useState<Moved | null>(null)
  const [told, setTold] = useState<Told>([])
  const [moved, setMoved] = useState<Moved | null>(null)
  const moving = useRef<AbortController | null>(null)
  // Who leaves the page calls it off.
  useEffect(() => () => moving.current?.abort(), [])
  const bodyOf = (isDryRun: boolean) => {
    const { values } = form
    const mode = values.db_ssl_mode
    return {
      ...{ db_host: values.db_host?.trim(), db_port: numberOrNull(values.db_port) },
      ...{ db_name: values.db_name?.trim(), db_user: values.db_user?.trim() },
      ...{ db_password: values.db_password, seconds: numberOrNull(values.seconds) },
      ...(mode !== 'as it is' && { db_ssl_mode: textOrNull(mode) }),
      ...{ reason: textOrNull(values.reason), dry_run: isDryRun },
    }
  }
  const look = async () => {
    const path = `/tenants/${id}/move`
    const options = { body: bodyOf(true), ifMatch: etag, answerMs: DRY_RUN_MS }
    const { result } = await call<Moved>(path, { method: 'POST', ...options })
    setDry(result)
    setPhase('asked')
  }
  const move = async () => {
    const gone = new AbortController()
    moving.current = gone
    setTold([])
    setPhase('moving')
    try {
      setMoved(await follow(id, { body: bodyOf(false), ifMatch: etag }, gone.signal, setTold))
    } catch (error) {
      setPhase('form')
      throw gone.signal.aborted ? new ApiError(STOPPED, 0, 'MOVE_FAILED') : error
    } finally {
      moving.current = null
      onChanged()
    }
  }
  const run = async () => {
    await (phase === 'form' ? look() : move())
    return null
  }
  if (moved !== null) return h(MoveReport, { moved, tenantKey: key, onClose })
  const isMoving = phase === 'moving'
  return h(FormDialog, {
    title: phase === 'asked' ? `Move ${key}?` : `Move: ${key}`,
    verb: phase === 'form' ? 'See whether it can be done' : 'Move it',
    busy: isMoving ? 'It is being moved…' : 'One moment…',
    leave: LEAVES[phase],
    onLeave: () => {
      if (phase === 'asked') setPhase('form')
      else if (isMoving) moving.current?.abort()
      else onClose()
    },
    // Not closed by the way: that would call it off.
    ...{ isWide: true, isHeld: isMoving, isDangerous: phase !== 'form', form, run, onClose },
    children: isMoving
      ? h(MoveSteps, { told })
      : phase === 'asked' && dry !== null
        ? h(Question, { dry, seconds: form.values.seconds ?? '' })
        : h(Fields, { form }),
  })
}

const LEAVES: Readonly<Record<Phase, string>> = {
  form: 'Cancel',
  asked: 'Back',
  moving: 'Stop the move',
}
const STOPPED =
  'You have called it off. The tenant is where it was, unless it had been switched already: its page says where it is.'

/** @returns what it came to @throws ApiError */
async function follow(
  id: string,
  { body, ifMatch }: { body: unknown; ifMatch: string | null },
  signal: AbortSignal,
  tell: (add: (now: Told) => Told) => void,
): Promise<Moved> {
  let end: Moved | ApiError = new ApiError(
    'The gateway fell silent; the tenant’s page says where it is.',
    ...([0, 'NO_ANSWER'] as const),
  )
  const path = `/tenants/${id}/move/events`
  const options = { method: 'POST', body, ifMatch } as const
  const onEvent = ({ name, data }: { name: string; data: string }) => {
    const event = JSON.parse(data) as MoveEvents[keyof MoveEvents]
    if (name === 'step') tell(now => [...now, event as MoveEvents['step']])
    if (name === 'moved') end = event as Moved
    if (name !== 'failed') return
    const { code, message } = event as MoveEvents['failed']
    end = new ApiError(message, 422, code)
  }
  await readEvents(path, '', signal, onEvent, options)
  if (end instanceof ApiError) throw end
  return end
}

function Question({ dry, seconds }: { dry: Moved; seconds: string }): View {
  return html`
    <p role="alert">It can be moved: ${many(dry.tables, 'table')} fit there. Its requests wait meanwhile, for ${seconds} s at most; where that is not enough it stays where it is. Afterwards the old database takes no more writes of its role, and is kept.</p>
    ${dry.notes.length === 0 ? null : html`<ul class="problems">${dry.notes.map(note => html`<li key=${note}>${note}</li>`)}</ul>`}
  `
}

const SSL_CHOICES = ['disable', 'require', 'verify-full'] as const

function Fields({ form }: { form: ReturnType<typeof useForm> }): View {
  const text = (name: string, label: string, isFocused = false) =>
    h(Field, { label, isFocused, isRequired: true, isMono: true, ...form.bind(name) })
  return html`
    <p>To an empty database that exists, with a role that owns it. It is rehearsed first, and nothing is changed by that.</p>
    <div class="fields">
      ${text('db_host', 'Host', true)}
      ${h(Field, { label: 'Port', type: 'number', isRequired: true, ...form.bind('db_port') })}
      ${text('db_name', 'Database')}
      ${text('db_user', 'Role')}
      ${h(Field, { label: 'Password', type: 'password', autocomplete: 'new-password', isRequired: true, ...form.bind('db_password') })}
      ${h(Field, {
        label: 'TLS',
        options: [
          ['as it is', 'as it is'],
          ['', 'as the deployment says'],
          ...SSL_CHOICES.map(mode => [mode, mode] as const),
        ],
        ...form.bind('db_ssl_mode'),
      })}
      ${h(Field, { label: 'Seconds that requests may wait', type: 'number', isRequired: true, ...form.bind('seconds') })}
    </div>
    ${h(ReasonField, { form, isFocused: false })}
  `
}
