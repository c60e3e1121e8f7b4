import { useState } from 'preact/hooks'
import { ApiError, call } from '../lib/api.ts'
import { html, type View } from '../lib/html.ts'
import { notify } from '../lib/notice.ts'
import type { TenantAction } from './action-dialog.ts'
import type { TenantViewProps } from './tenant.ts'

const MINUTES = 15

export const DEBUG: TenantAction = {
  verb: 'debug',
  title: 'Debug',
  text: 'Each of its requests is logged with timings and reasons, and its traces are kept, at every gateway. It ends by itself.',
  isReasonNeeded: true,
  minutes: MINUTES,
}

export interface DebugSwitchProps extends TenantViewProps {
  readonly onStart: () => void
}

/** Whether its requests are logged, each of them, and a way to begin or end that. */
export function DebugSwitch({ tenant, onStart, onChanged }: DebugSwitchProps): View {
  const [isBusy, setIsBusy] = useState(false)
  const { id, tenant_key: key, debug_until: until } = tenant
  const end = async () => {
    setIsBusy(true)
    try {
      const { message } = await call(`/tenants/${id}/debug`, { method: 'DELETE' })
      notify(`${key}: ${message}`)
    } catch (error) {
      notify(error instanceof ApiError ? error.message : 'It failed.', { isBad: true })
    }
    onChanged()
    setIsBusy(false)
  }
  return until === null
    ? html`<button type="button" key="start" onClick=${onStart}>Debug…</button>`
    : html`<button type="button" key="end" disabled=${isBusy} onClick=${end}>End debug</button>`
}
