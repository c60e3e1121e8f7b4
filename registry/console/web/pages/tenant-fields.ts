import { type Form, numberOrNull, textOrNull } from '../lib/form.ts'
import { h, html, type View } from '../lib/html.ts'
import { Field } from '../ui/field.ts'

/** Fields of a tenant that its making and its editing share, by the API's names. */

interface FieldSpec {
  readonly name: string
  readonly label: string
  readonly hint?: string
  readonly isNumber?: boolean
  readonly isSecret?: boolean
  readonly isMono?: boolean
  readonly options?: readonly (readonly [string, string])[]
}

export const BASICS: readonly FieldSpec[] = [
  { name: 'name', label: 'Name' },
  {
    name: 'mode',
    label: 'Mode',
    options: [
      ['shared', 'shared'],
      ['dedicated', 'dedicated'],
    ],
  },
  { name: 'plan', label: 'Plan', hint: 'Code of a plan; empty: none.' },
  {
    name: 'app_url',
    label: 'Own deployment',
    hint: 'URL of a dedicated tenant’s own app.',
    isMono: true,
  },
]

export const DATABASE: readonly FieldSpec[] = [
  { name: 'db_host', label: 'Host', isMono: true },
  { name: 'db_port', label: 'Port', isNumber: true, hint: '5432 where empty.' },
  { name: 'db_name', label: 'Database', isMono: true },
  { name: 'db_user', label: 'Role', isMono: true },
  { name: 'db_password', label: 'Password', isSecret: true },
  {
    name: 'db_ssl_mode',
    label: 'TLS',
    options: [
      ['', 'as the deployment says'],
      ['disable', 'disable'],
      ['require', 'require'],
      ['verify-full', 'verify-full'],
    ],
  },
  {
    name: 'db_pool_max',
    label: 'Connections at most',
    isNumber: true,
    hint: 'In the whole fleet.',
  },
]

export const BUCKET: readonly FieldSpec[] = [
  { name: 'bucket_provider', label: 'Provider', hint: 'Such as s3; empty: no bucket of its own.' },
  { name: 'bucket_name', label: 'Bucket', isMono: true },
  {
    name: 'bucket_prefix',
    label: 'Prefix',
    isMono: true,
    hint: 'Such as acme/ in a bucket that tenants share.',
  },
  { name: 'bucket_region', label: 'Region', isMono: true },
  { name: 'bucket_endpoint', label: 'Endpoint', isMono: true },
  { name: 'bucket_access_key', label: 'Access key', isSecret: true },
  { name: 'bucket_secret_key', label: 'Secret key', isSecret: true },
]

export const TOKENS: readonly FieldSpec[] = [
  {
    name: 'token_issuer',
    label: 'Issuer',
    isMono: true,
    hint: 'Of the tenant’s own identity provider.',
  },
  { name: 'token_jwks_url', label: 'URL of its keys', isMono: true },
  { name: 'token_audience', label: 'Audience', isMono: true },
]

export interface FieldsProps {
  readonly title: string
  readonly fields: readonly FieldSpec[]
  readonly form: Form
  readonly required?: readonly string[]
  /** Secrets that are set stay where their field is empty. */
  readonly keptSecrets?: boolean
}

export function TenantFields({
  title,
  fields,
  form,
  required = [],
  keptSecrets = false,
}: FieldsProps): View {
  return html`<fieldset class="card">
    <legend>${title}</legend>
    <div class="fields">
      ${fields.map(({ name, label, hint, isNumber, isSecret, isMono, options }) =>
        h(Field, {
          key: name,
          label,
          ...form.bind(name),
          type: isSecret ? ('password' as const) : ('text' as const),
          hint: isSecret && keptSecrets ? 'Empty: as it is.' : hint,
          isMono: isMono === true || isNumber === true || isSecret === true,
          isRequired: required.includes(name),
          ...(isSecret && { autocomplete: 'new-password' }),
          ...(options !== undefined && { options }),
        }),
      )}
    </div>
  </fieldset>`
}

const ALL = [...BASICS, ...DATABASE, ...BUCKET, ...TOKENS]

/** What the form says of `names`, as the API takes it; an empty secret is left out. */
export function bodyOf(form: Form, names: readonly string[]): Record<string, unknown> {
  const body: Record<string, unknown> = {}
  for (const { name, isNumber, isSecret } of ALL) {
    if (!names.includes(name)) continue
    const text = form.values[name]
    // A secret may begin or end with a blank.
    if (isSecret) {
      if (text) body[name] = text
    } else body[name] = isNumber ? numberOrNull(text) : textOrNull(text)
  }
  return body
}

export const NAMES = ALL.map(({ name }) => name)
export const PLACE_NAMES = [...DATABASE, ...BUCKET].map(({ name }) => name)
