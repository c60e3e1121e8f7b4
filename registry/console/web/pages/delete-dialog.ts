import { useState } from 'preact/hooks'
import type { TenantItem } from '../../../admin/item.ts'
import { ApiError, call } from '../lib/api.ts'
import { h, html, type View } from '../lib/html.ts'
import { notify } from '../lib/notice.ts'
import { go } from '../lib/route.ts'
import { useMay } from '../lib/session.ts'
import { Dialog } from '../ui/dialog.ts'
import { Failure } from '../ui/failure.ts'
import { Check, Field } from '../ui/field.ts'
import { REASON_CHARS_MAX } from './action-dialog.ts'

export interface DeleteDialogProps {
  readonly tenant: TenantItem
  readonly etag: string | null
  readonly onChanged: () => void
  readonly onClose: () => void
}

/** For what cannot be undone, the key is typed. */
export function DeleteDialog({ tenant, etag, onChanged, onClose }: DeleteDialogProps): View {
  const may = useMay()
  const [typed, setTyped] = useState('')
  const [reason, setReason] = useState('')
  const [isForced, setIsForced] = useState(false)
  const [error, setError] = useState<ApiError | null>(null)
  const [isBusy, setIsBusy] = useState(false)
  const { id, tenant_key: key } = tenant
  const onSubmit = async (event: Event) => {
    event.preventDefault()
    if (isBusy || typed !== key) return
    setIsBusy(true)
    setError(null)
    try {
      const { message } = await call(`/tenants/${id}`, {
        method: 'DELETE',
        body: { confirm: typed, reason: reason.trim() || null, ...(isForced && { force: true }) },
        ifMatch: etag,
      })
      notify(`${key}: ${message}`)
      onClose()
      go('/tenants')
    } catch (failure) {
      if (failure instanceof ApiError) setError(failure)
      setIsBusy(false)
    }
    onChanged()
  }
  return h(Dialog, {
    title: `Delete ${key} for good`,
    onClose,
    children: html`<form onSubmit=${onSubmit}>
      <p>The tenant is gone from the Registry, and its secrets with it. Its database and bucket stay as they are. What it has used, its statements and its audit are kept.</p>
      ${error === null ? null : h(Failure, { error })}
      ${h(Field, {
        label: 'Type its key to confirm',
        hint: html`<code>${key}</code>`,
        value: typed,
        onInput: setTyped,
        isRequired: true,
        isFocused: true,
        isMono: true,
        error: error?.fields.confirm ?? null,
      })}
      ${h(Field, { label: 'Reason', value: reason, onInput: setReason, charsMax: REASON_CHARS_MAX })}
      ${
        may.own
          ? h(Check, {
              label: 'Even before its grace period is over',
              isOn: isForced,
              onChange: setIsForced,
            })
          : null
      }
      <div class="buttons">
        <button type="button" onClick=${onClose}>Cancel</button>
        <button type="submit" class="primary danger" disabled=${isBusy || typed !== key}>Delete</button>
      </div>
    </form>`,
  })
}
