import { useState } from 'preact/hooks'
import type { Provisioning } from '../../../admin/provisioning.ts'
import { ApiError, call } from '../lib/api.ts'
import { h, html, type View } from '../lib/html.ts'
import { notify } from '../lib/notice.ts'
import { usePolled } from '../lib/poll.ts'
import { useMay } from '../lib/session.ts'
import { Failure } from '../ui/failure.ts'
import { Badge } from '../ui/status.ts'
import type { TenantViewProps } from './tenant.ts'

const MAKING_MS = 1500

const STEP_TEXTS: Readonly<Record<string, string>> = {
  reserve: 'Reserve the key',
  role: 'Make the role',
  database: 'Make the database',
  bucket: 'Make the bucket',
  migrate: 'Migrate the schema',
  admin: 'Make the first user',
  activate: 'Activate',
}
const TONES = { running: 'info', failed: 'bad', interrupted: 'warn', done: 'ok' } as const

/** How far the making of a tenant has come, and what to do where it stopped. */
export function TenantMaking({
  tenant: { id, tenant_key: key },
  onChanged,
}: TenantViewProps): View | null {
  const may = useMay()
  const [error, setError] = useState<ApiError | null>(null)
  const making = usePolled(`making ${id}`, MAKING_MS, async signal => {
    const { result } = await call<Provisioning>(`/tenants/${id}/provisioning`, {
      signal,
      isPoll: true,
    })
    if (result.state === 'done') onChanged()
    return result
  })
  if (making.data === null) {
    // It was registered so, and nobody makes it.
    if (making.error === null || making.error.status === 404) return null
    return h(Failure, { error: making.error })
  }
  const { state, step, steps, error: problem, action } = making.data
  const act = async (verb: 'retry' | 'undo') => {
    setError(null)
    try {
      const { message } = await call(`/tenants/${id}/provisioning/${verb}`, {
        method: 'POST',
        body: {},
      })
      notify(`${key}: ${message}`)
    } catch (failure) {
      if (failure instanceof ApiError) setError(failure)
    }
    making.reload()
  }
  const at = step === null ? -1 : (steps as readonly string[]).indexOf(step)
  const isOver = state === 'done'
  return html`<section class="card" aria-label="Making of the tenant">
    <header class="card-head">
      <h2>${action === 'undo' ? 'What was made is taken back' : 'The tenant is being made'}</h2>
      ${h(Badge, { text: state, tone: TONES[state] })}
    </header>
    <ol class="steps" aria-live="polite">
      ${steps.map((name, i) => {
        const is = isOver || i < at ? 'done' : i === at ? state : 'waiting'
        return html`<li key=${name} class=${is}>${STEP_TEXTS[name] ?? name} <span class="hint">${is}</span></li>`
      })}
    </ol>
    ${problem === null ? null : html`<p class="failure">${problem.message} <span class="hint">${problem.code}</span></p>`}
    ${error === null ? null : h(Failure, { error })}
    ${
      may.operate && (state === 'failed' || state === 'interrupted')
        ? html`<div class="buttons">
            <button type="button" class="primary" onClick=${() => act('retry')}>Go on</button>
            <button type="button" class="danger" onClick=${() => act('undo')}>Take it all back</button>
          </div>`
        : null
    }
  </section>`
}
