import type { PlanItem } from '../../../admin/plans.ts'
import { call } from '../lib/api.ts'
import { numberOrNull, useForm } from '../lib/form.ts'
import { many } from '../lib/format.ts'
import { h, html, type View } from '../lib/html.ts'
import { Field } from '../ui/field.ts'
import { FormDialog } from '../ui/form-dialog.ts'
import { LimitFields, limitsOf, limitValues } from './tenant-limits.ts'

export interface PlanDialogProps {
  /** null: a new one. */
  readonly plan: PlanItem | null
  readonly onChanged: () => void
  readonly onClose: () => void
}

export function PlanDialog({ plan, onChanged, onClose }: PlanDialogProps): View {
  const form = useForm({
    code: '',
    name: plan?.name ?? '',
    weight: String(plan?.weight ?? 1),
    ...limitValues(plan?.limits),
  })
  const run = async () => {
    const { code = '', name = '', weight } = form.values
    const shown = name.trim()
    const body = {
      ...(shown !== '' && { name: shown }),
      ...{ weight: numberOrNull(weight), limits: limitsOf(form) },
    }
    try {
      const { message } =
        plan === null
          ? await call('/plans', { method: 'POST', body: { ...body, code: code.trim() } })
          : await call(`/plans/${encodeURIComponent(plan.code)}`, {
              ...{ method: 'PATCH', body, ifMatch: `"${plan.etag}"` },
            })
      return message
    } finally {
      onChanged()
    }
  }
  const whom =
    plan === null
      ? 'Tenants that are given it are held to it.'
      : `${many(plan.tenants, 'tenant')} ${plan.tenants === 1 ? 'is' : 'are'} held to it within a second.`
  return h(FormDialog, {
    title: plan === null ? 'Add a plan' : `Edit plan ${plan.code}`,
    ...{ verb: 'Save', isWide: true, form, run, onClose },
    children: html`
      <div class="fields">
        ${plan === null ? h(Field, { label: 'Code', hint: 'a–z, 0–9, - and _; it stays as it is.', isRequired: true, isMono: true, isFocused: true, charsMax: 63, ...form.bind('code') }) : null}
        ${h(Field, { label: 'Name', charsMax: 200, ...form.bind('name') })}
        ${h(Field, { label: 'Weight', type: 'number', isRequired: true, hint: 'Its share where tenants have to wait.', ...form.bind('weight') })}
      </div>
      ${h(LimitFields, { form, isOfPlan: true })}
      <p class="hint">${whom}</p>
    `,
  })
}
