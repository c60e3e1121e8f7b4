import { useState } from 'preact/hooks'
import { call } from '../lib/api.ts'
import { textOrNull, useForm } from '../lib/form.ts'
import { h, html, type View } from '../lib/html.ts'
import { go } from '../lib/route.ts'
import { useMay } from '../lib/session.ts'
import { Check, Field } from '../ui/field.ts'
import { FormDialog } from '../ui/form-dialog.ts'
import { ReasonField, type TenantDialogProps } from './action-dialog.ts'

/** For what cannot be undone, the key is typed. */
export function DeleteDialog({ tenant, etag, onChanged, onClose }: TenantDialogProps): View {
  const may = useMay()
  const form = useForm({ confirm: '', reason: '' })
  const [isForced, setIsForced] = useState(false)
  const { id, tenant_key: key } = tenant
  const typed = form.values.confirm ?? ''
  const run = async () => {
    const reason = textOrNull(form.values.reason)
    try {
      const { message } = await call(`/tenants/${id}`, {
        method: 'DELETE',
        body: { confirm: typed, reason, ...(isForced && { force: true }) },
        ifMatch: etag,
      })
      go('/tenants')
      return `${key}: ${message}`
    } finally {
      onChanged()
    }
  }
  return h(FormDialog, {
    ...{ title: `Delete ${key} for good`, verb: 'Delete', isDangerous: true },
    ...{ form, run, onClose, isDisabled: typed !== key },
    children: html`
      <p>The tenant is gone from the Registry, and its secrets with it. Its database and bucket stay as they are. What it has used, its statements and its audit are kept.</p>
      ${h(Field, {
        label: 'Type its key to confirm',
        hint: html`<code>${key}</code>`,
        ...{ isRequired: true, isFocused: true, isMono: true },
        ...form.bind('confirm'),
      })}
      ${h(ReasonField, { form, isFocused: false })}
      ${
        may.own
          ? h(Check, {
              label: 'Even before its grace period is over',
              isOn: isForced,
              onChange: setIsForced,
            })
          : null
      }
    `,
  })
}
