import { useState } from 'preact/hooks'
import type { DatabaseHostItem } from '../../../admin/database-hosts.ts'
import { call } from '../lib/api.ts'
import { count, many, orDash } from '../lib/format.ts'
import { h, html, type View } from '../lib/html.ts'
import { usePolled } from '../lib/poll.ts'
import { useHolder, useMay } from '../lib/session.ts'
import { Facts } from '../ui/facts.ts'
import { Failure } from '../ui/failure.ts'
import { Confirm } from '../ui/form-dialog.ts'
import { PageHead } from '../ui/page-head.ts'
import { Table } from '../ui/table.ts'
import { DatabaseHostDialog } from './database-host-dialog.ts'

type Shown =
  | { readonly what: 'add' }
  | { readonly what: 'edit' | 'remove'; readonly host: DatabaseHostItem }

/** Servers that databases are made on, and who is signed in. */
export function SettingsPage(): View {
  const may = useMay()
  const holder = useHolder()
  const [shown, setShown] = useState<Shown | null>(null)
  const hosts = usePolled('database-hosts', null, async signal => {
    const path = '/database-hosts'
    const { result } = await call<{ items: readonly DatabaseHostItem[] }>(path, { signal })
    return result.items
  })
  const { data, error, reload } = hosts
  const onClose = () => setShown(null)
  const add = html`<button type="button" class="primary" onClick=${() => setShown({ what: 'add' })}>Add a server</button>`
  return html`
    ${h(PageHead, { title: 'Settings' })}
    <section aria-labelledby="hosts">
      <div class="section-head">
        <h2 id="hosts">Database servers</h2>
        ${may.own ? add : null}
      </div>
      <p class="hint above">Databases of new tenants are made on these, by a role of each that may create roles and databases.</p>
      ${error === null ? null : h(Failure, { error, onRetry: reload })}
      ${data === null ? html`<div class="card" aria-busy=${error === null}></div>` : h(Hosts, { hosts: data, show: setShown })}
    </section>
    <section aria-labelledby="keys" class="card">
      <h2 id="keys">Admin keys</h2>
      ${h(Facts, {
        facts: [
          ['Signed in by', holder.name],
          ['It may', SCOPES[holder.scope]],
        ],
      })}
      <p class="hint above">Keys are made, listed and revoked by the command line alone, so that a key that leaks cannot make itself a successor:</p>
      <pre tabindex="0" aria-label="Commands for admin keys"><code>${COMMANDS}</code></pre>
    </section>
    ${shown?.what === 'add' ? h(DatabaseHostDialog, { host: null, onClose, onSaved: reload }) : null}
    ${shown?.what === 'edit' ? h(DatabaseHostDialog, { host: shown.host, onClose, onSaved: reload }) : null}
    ${shown?.what === 'remove' ? h(Removal, { host: shown.host, onClose, onRemoved: reload }) : null}
  `
}

const SCOPES = {
  read: 'look at everything',
  operate: 'look after tenants',
  own: 'do everything',
} as const

const COMMANDS = [
  'npm run -s tenant -- admin-key list',
  'npm run -s tenant -- admin-key create ci --scope operate',
  'npm run -s tenant -- admin-key revoke ci',
].join('\n')

interface HostsProps {
  readonly hosts: readonly DatabaseHostItem[]
  readonly show: (shown: Shown) => void
}

function Hosts({ hosts, show }: HostsProps): View {
  const may = useMay()
  return h(Table, {
    label: 'Database servers',
    isEmpty: hosts.length === 0,
    empty: 'There is none: tenants can be registered with a database that is there already.',
    columns: [
      { title: 'Name' },
      { title: 'Address' },
      { title: 'Role', class: 'wide-only' },
      { title: 'TLS', class: 'mid' },
      { title: 'Tenants', class: 'number mid' },
      ...(may.own ? [{ title: '' }] : []),
    ],
    children: hosts.map(
      host => html`<tr key=${host.name}>
        <th scope="row">${host.name}</th>
        <td class="mono place">${host.host}:${host.port}</td>
        <td class="wide-only mono">${host.admin_user}<span class="name">by database ${host.admin_db}</span></td>
        <td class="mid">${orDash(host.ssl_mode)}</td>
        <td class="number mid">${count(host.tenants)}</td>
        ${
          may.own
            ? html`<td class="end"><div class="buttons row-buttons">
                <button type="button" aria-label=${`Edit ${host.name}`} onClick=${() => show({ what: 'edit', host })}>Edit</button>
                <button type="button" class="danger" aria-label=${`Remove ${host.name}`} onClick=${() => show({ what: 'remove', host })}>Remove</button>
              </div></td>`
            : null
        }
      </tr>`,
    ),
  })
}

interface RemovalProps {
  readonly host: DatabaseHostItem
  readonly onClose: () => void
  readonly onRemoved: () => void
}

function Removal({ host, onClose, onRemoved }: RemovalProps): View {
  const run = async () => {
    const path = `/database-hosts/${encodeURIComponent(host.name)}`
    const { message } = await call(path, { method: 'DELETE' })
    onRemoved()
    return message
  }
  const stay =
    host.tenants === 0 ? '' : ` What is there stays as it is: ${many(host.tenants, 'tenant')}.`
  return h(Confirm, {
    title: `Remove ${host.name}`,
    verb: 'Remove',
    isDangerous: true,
    run,
    onClose,
    children: `Nothing more is made on ${host.host}:${host.port}, and its password is forgotten.${stay}`,
  })
}
