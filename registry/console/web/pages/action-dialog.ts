import type { TenantItem } from '../../../admin/item.ts'
import { call } from '../lib/api.ts'
import { numberOrNull, textOrNull, useForm } from '../lib/form.ts'
import { h, html, type View } from '../lib/html.ts'
import { Field } from '../ui/field.ts'
import { FormDialog } from '../ui/form-dialog.ts'

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
  /** For so many minutes, which can be chosen. */
  readonly minutes?: number
}

export interface TenantDialogProps {
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
}: TenantDialogProps & { action: TenantAction }): View {
  const { verb, title, text, minutes } = action
  const form = useForm({ reason: '', minutes: String(minutes ?? '') })
  const run = async () => {
    try {
      const { message } = await call(`/tenants/${tenant.id}/${verb}`, {
        method: 'POST',
        body: {
          reason: textOrNull(form.values.reason),
          ...(minutes !== undefined && { minutes: numberOrNull(form.values.minutes) }),
        },
        ifMatch: action.isVersioned ? etag : null,
      })
      return `${tenant.tenant_key}: ${message}`
    } finally {
      // A refusal too says that the tenant is not what it was here.
      onChanged()
    }
  }
  return h(FormDialog, {
    ...{ title: `${title}: ${tenant.tenant_key}`, verb: title, form, run, onClose },
    isDangerous: action.isDangerous === true,
    children: html`
      <p>${text}</p>
      ${minutes === undefined ? null : h(Field, { label: 'Minutes', type: 'number', isRequired: true, ...form.bind('minutes') })}
      ${h(ReasonField, { form, isRequired: action.isReasonNeeded === true })}
    `,
  })
}

export interface ReasonFieldProps {
  readonly form: ReturnType<typeof useForm>
  readonly isRequired?: boolean
  readonly isFocused?: boolean
}

export function ReasonField({
  form,
  isRequired = false,
  isFocused = true,
}: ReasonFieldProps): View {
  return h(Field, {
    ...{ label: 'Reason', hint: 'It is kept in the audit; tenants do not see it.' },
    ...{ lines: 2, charsMax: REASON_CHARS_MAX, isRequired, isFocused },
    ...form.bind('reason'),
  })
}
