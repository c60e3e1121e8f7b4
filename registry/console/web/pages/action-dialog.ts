import { useState } from 'preact/hooks'
import type { TenantItem } from '../../../admin/item.ts'
import { ApiError, call } from '../lib/api.ts'
import { h, html, type View } from '../lib/html.ts'
import { notify } from '../lib/notice.ts'
import { Dialog } from '../ui/dialog.ts'
import { Failure } from '../ui/failure.ts'
import { Field } from '../ui/field.ts'

export interface TenantAction {
  /** Last part of its path in the API. */
  readonly verb: string
  readonly title: string
  /** What comes of it. */
  readonly text: string
  readonly isReasonNeeded?: boolean
  readonly isDangerous?: boolean
  /** Refused where the tenant was changed since it was read. */
  readonly isVersioned?: boolean
}

export interface ActionDialogProps {
  readonly action: TenantAction
  readonly tenant: TenantItem
  readonly etag: string | null
  readonly onChanged: () => void
  readonly onClose: () => void
}

export const REASON_CHARS_MAX = 500

/** Says what will be, asks why, and does it. */
export function ActionDialog({
  action,
  tenant,
  etag,
  onChanged,
  onClose,
}: ActionDialogProps): View {
  const { verb, title, text, isReasonNeeded = false, isDangerous = false } = action
  const [reason, setReason] = useState('')
  const [error, setError] = useState<ApiError | null>(null)
  const [isBusy, setIsBusy] = useState(false)
  const onSubmit = async (event: Event) => {
    event.preventDefault()
    if (isBusy) return
    setIsBusy(true)
    setError(null)
    try {
      const { message } = await call(`/tenants/${tenant.id}/${verb}`, {
        method: 'POST',
        body: { reason: reason.trim() || null },
        ifMatch: action.isVersioned ? etag : null,
      })
      notify(`${tenant.tenant_key}: ${message}`)
      onClose()
    } catch (failure) {
      if (failure instanceof ApiError) setError(failure)
      setIsBusy(false)
    }
    onChanged()
  }
  return h(Dialog, {
    title: `${title}: ${tenant.tenant_key}`,
    onClose,
    children: html`<form onSubmit=${onSubmit}>
      <p>${text}</p>
      ${error === null ? null : h(Failure, { error })}
      ${h(Field, {
        label: 'Reason',
        hint: 'It is kept in the audit; tenants do not see it.',
        value: reason,
        onInput: setReason,
        lines: 2,
        charsMax: REASON_CHARS_MAX,
        isRequired: isReasonNeeded,
        isFocused: true,
        error: error?.fields.reason ?? null,
      })}
      <div class="buttons">
        <button type="button" onClick=${onClose}>Cancel</button>
        <button type="submit" class=${isDangerous ? 'primary danger' : 'primary'} disabled=${isBusy}>
          ${isBusy ? 'One moment…' : title}
        </button>
      </div>
    </form>`,
  })
}
