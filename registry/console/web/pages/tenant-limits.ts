import type { Form } from '../lib/form.ts'
import { h, html, type View } from '../lib/html.ts'
import { Field } from '../ui/field.ts'

/** Limits of a tenant of its own, by their names in the API. */
const LIMITS = [
  ['requests_per_s', 'Requests/s'],
  ['burst', 'Burst'],
  ['in_flight', 'Requests at once'],
  ['body_bytes', 'Bytes of a body'],
  ['sockets', 'Open sockets'],
  ['requests_per_month', 'Requests a month'],
  ['weight', 'Weight under pressure'],
  ['spread', 'Replicas'],
] as const

/** What stands for a limit that is lifted, whatever the plan says. */
const NO_LIMIT = 'none'

export interface LimitFieldsProps {
  readonly form: Form
  /** A plan has its weight beside its limits, and a tenant alone its replicas. */
  readonly isOfPlan?: boolean
}

export function LimitFields({ form, isOfPlan = false }: LimitFieldsProps): View {
  const [whose, otherwise] = isOfPlan
    ? ['Limits', 'the deployment’s']
    : ['Limits of its own', 'the plan’s, else the deployment’s']
  const shown = LIMITS.filter(([name]) => !isOfPlan || (name !== 'weight' && name !== 'spread'))
  return html`<fieldset class="card">
    <legend>${whose}</legend>
    <p class="hint">Empty: ${otherwise}. “${NO_LIMIT}”: no limit, whatever is said there.</p>
    <div class="fields">
      ${shown.map(([name, label]) =>
        h(Field, { key: name, label, ...form.bind(`limits.${name}`), isMono: true }),
      )}
      ${h(Field, {
        label: 'Quota',
        ...form.bind('limits.quota'),
        options: [
          ['', isOfPlan ? 'as the deployment says' : 'as the plan says'],
          ['soft', 'soft: told of'],
          ['hard', 'hard: refused'],
        ],
      })}
    </div>
  </fieldset>`
}

/** Of a tenant's limits, for the form. */
export function limitValues(limits: unknown): Record<string, string> {
  return Object.fromEntries(
    Object.entries(Object(limits) as Record<string, unknown>).map(([name, value]) => [
      `limits.${name}`,
      value === null ? NO_LIMIT : String(value),
    ]),
  )
}

/** As the API takes them. */
export function limitsOf({ values }: Form): Record<string, unknown> {
  const limits: Record<string, unknown> = {}
  for (const [name] of LIMITS) {
    const text = values[`limits.${name}`]?.trim() ?? ''
    if (text === NO_LIMIT) limits[name] = null
    else if (text !== '') limits[name] = Number.isFinite(Number(text)) ? Number(text) : text
  }
  if (values['limits.quota']) limits.quota = values['limits.quota']
  return limits
}
