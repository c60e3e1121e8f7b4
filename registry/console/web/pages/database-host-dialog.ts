import type { DatabaseHostItem } from '../../../admin/database-hosts.ts'
import type { SslMode } from '../../../tenant.ts'
import { call } from '../lib/api.ts'
import { numberOrNull, textOrNull, useForm } from '../lib/form.ts'
import { h, html, type View } from '../lib/html.ts'
import { Field } from '../ui/field.ts'
import { FormDialog } from '../ui/form-dialog.ts'

export interface DatabaseHostDialogProps {
  /** null: a new one. */
  readonly host: DatabaseHostItem | null
  readonly onClose: () => void
  readonly onSaved: () => void
}

const SSL_MODES: readonly SslMode[] = ['disable', 'require', 'verify-full']

/** The API connects before it saves; the password goes there once and is never shown again. */
export function DatabaseHostDialog({ host, onClose, onSaved }: DatabaseHostDialogProps): View {
  const form = useForm({
    name: host?.name ?? '',
    host: host?.host ?? '',
    port: String(host?.port ?? 5432),
    admin_user: host?.admin_user ?? '',
    admin_db: host?.admin_db ?? 'postgres',
    ssl_mode: host?.ssl_mode ?? '',
    admin_password: '',
  })
  const run = async () => {
    const { values } = form
    const password = values.admin_password ?? ''
    const fields = {
      host: values.host?.trim(),
      port: numberOrNull(values.port),
      admin_user: values.admin_user?.trim(),
      admin_db: values.admin_db?.trim(),
      ssl_mode: textOrNull(values.ssl_mode),
    }
    const { message } =
      host === null
        ? await call('/database-hosts', {
            method: 'POST',
            body: { ...fields, name: values.name?.trim(), admin_password: password },
          })
        : await call(`/database-hosts/${encodeURIComponent(host.name)}`, {
            method: 'PATCH',
            body: { ...fields, ...(password !== '' && { admin_password: password }) },
          })
    onSaved()
    return message
  }
  const text = (name: string, label: string, hint?: string) =>
    h(Field, { label, hint, isRequired: true, isMono: true, ...form.bind(name) })
  return h(FormDialog, {
    title: host === null ? 'Add a server' : `Edit ${host.name}`,
    ...{ verb: 'Save', busy: 'Trying it…', isWide: true, form, run, onClose },
    children: html`
      <div class="fields">
        ${host === null ? text('name', 'Name', 'As it is called here: a-z, 0-9 and -.') : null}
        ${text('host', 'Host')}
        ${h(Field, { label: 'Port', type: 'number', isRequired: true, ...form.bind('port') })}
        ${text('admin_user', 'Role', 'It needs CREATEROLE and CREATEDB.')}
        ${h(Field, {
          label: 'Password',
          type: 'password',
          autocomplete: 'new-password',
          isRequired: host === null,
          hint: host === null ? undefined : 'Empty: it stays as it is.',
          ...form.bind('admin_password'),
        })}
        ${text('admin_db', 'Database', 'To connect to.')}
        ${h(Field, {
          label: 'TLS',
          options: [['', 'as the default is'], ...SSL_MODES.map(mode => [mode, mode] as const)],
          ...form.bind('ssl_mode'),
        })}
      </div>
      <p class="hint">The server is tried before it is saved.</p>
    `,
  })
}
