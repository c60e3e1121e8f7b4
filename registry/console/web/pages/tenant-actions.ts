import { useState } from 'preact/hooks'
import type { TenantItem } from '../../../admin/item.ts'
import { h, html, type View } from '../lib/html.ts'
import { useMay } from '../lib/session.ts'
import { Menu } from '../ui/menu.ts'
import { ActionDialog, type TenantAction } from './action-dialog.ts'
import { DeleteDialog } from './delete-dialog.ts'
import { MoveDialog } from './move-dialog.ts'
import type { TenantViewProps } from './tenant.ts'
import { DEBUG, DebugSwitch } from './tenant-debug.ts'

const SUSPEND: TenantAction = {
  verb: 'suspend',
  title: 'Suspend',
  text: 'All its requests are refused from the next second on, and open connections are cut. Its data stays.',
  isReasonNeeded: true,
  isDangerous: true,
}
const MAINTENANCE: TenantAction = {
  verb: 'maintenance',
  title: 'Maintenance',
  text: 'Its requests are answered with 503 and told to come again, until it is active.',
  isReasonNeeded: true,
}
const ACTIVATE: TenantAction = {
  verb: 'activate',
  title: 'Activate',
  text: 'It is served from the next second on.',
}
const ROTATE: TenantAction = {
  verb: 'rotate-credentials',
  title: 'Rotate the password',
  text: 'Its database role gets a new random password, which nobody sees. Requests under way go on with the old connections.',
  isVersioned: true,
}
const REVOKE: TenantAction = {
  verb: 'revoke-sessions',
  title: 'Revoke all sessions',
  text: 'Everyone is signed out: tokens that were issued until now are refused.',
  isDangerous: true,
}
const ARCHIVE: TenantAction = {
  verb: 'archive',
  title: 'Archive',
  text: 'It is taken out of service. After its grace period it may be deleted; until then it can be taken back.',
  isReasonNeeded: true,
  isDangerous: true,
  isVersioned: true,
}
const UNARCHIVE: TenantAction = {
  verb: 'unarchive',
  title: 'Take back',
  text: 'It is suspended then, so that somebody looks at it before it is served.',
}

/** By the status: what is one click away, and what stands in the menu. As registry/tenant.ts lets statuses move. */
const ACTIONS: Readonly<
  Record<string, { readonly near: readonly TenantAction[]; readonly far: readonly TenantAction[] }>
> = {
  active: { near: [SUSPEND], far: [MAINTENANCE, ROTATE, REVOKE, ARCHIVE] },
  maintenance: { near: [ACTIVATE], far: [SUSPEND, ROTATE, REVOKE, ARCHIVE] },
  suspended: { near: [ACTIVATE], far: [MAINTENANCE, ROTATE, REVOKE, ARCHIVE] },
  archived: { near: [UNARCHIVE], far: [] },
  provisioning: { near: [], far: [ACTIVATE, ARCHIVE] },
}
const NONE = { near: [], far: [] } as const

type What = TenantAction | 'delete' | 'move'

/** What is served, or would be. */
const MOVABLE: readonly string[] = ['active', 'maintenance', 'suspended']

/** What somebody is about to do with a tenant, as it was when they chose it. */
export interface Asked {
  readonly what: What
  readonly tenant: TenantItem
  readonly etag: string | null
}

/** What may be done with a tenant; nothing for a key of scope read. */
export function TenantActions({ tenant, etag, onChanged }: TenantViewProps): View | null {
  const may = useMay()
  const [asked, setAsked] = useState<Asked | null>(null)
  if (!may.operate) return null
  const { near, far } = ACTIONS[tenant.status] ?? NONE
  const ask = (what: What) => setAsked({ what, tenant, etag })
  return html`
    ${tenant.status === 'archived' ? null : h(DebugSwitch, { tenant, etag, onChanged, onStart: () => ask(DEBUG) })}
    ${near.map(
      action => html`<button
        key=${action.verb}
        type="button"
        class=${action.isDangerous ? 'danger' : 'primary'}
        onClick=${() => ask(action)}
      >${action.title}…</button>`,
    )}
    ${h(Menu, { label: 'More actions', text: 'More ▾', items: itemsOf(tenant, far, ask, may.own) })}
    ${asked === null ? null : h(TenantDialogs, { asked, onChanged, onClose: () => setAsked(null) })}
  `
}

export interface TenantRowActionsProps {
  readonly tenant: TenantItem
  readonly etag: string | null
  /** Whoever has the row has the dialog. */
  readonly ask: (asked: Asked) => void
}

/** The same in a row of a list. */
export function TenantRowActions({ tenant, etag, ask }: TenantRowActionsProps): View {
  const may = useMay()
  const { near, far } = ACTIONS[tenant.status] ?? NONE
  return h(Menu, {
    label: `Actions for ${tenant.tenant_key}`,
    text: '⋯',
    isPlain: true,
    items: itemsOf(tenant, [...near, ...far], what => ask({ what, tenant, etag }), may.own),
  })
}

function itemsOf(
  { status }: TenantItem,
  actions: readonly TenantAction[],
  pick: (what: What) => void,
  mayMove: boolean,
) {
  const items = actions.map(action => ({
    title: `${action.title}…`,
    isDangerous: action.isDangerous === true,
    onPick: () => pick(action),
  }))
  if (MOVABLE.includes(status) && mayMove) {
    items.push({ title: 'Move…', isDangerous: false, onPick: () => pick('move') })
  }
  if (status !== 'archived') return items
  return [...items, { title: 'Delete…', isDangerous: true, onPick: () => pick('delete') }]
}

export interface TenantDialogsProps {
  readonly asked: Asked
  readonly onChanged: () => void
  readonly onClose: () => void
}

export function TenantDialogs({ asked: { what, ...of }, ...rest }: TenantDialogsProps): View {
  if (what === 'delete') return h(DeleteDialog, { ...of, ...rest })
  if (what === 'move') return h(MoveDialog, { ...of, ...rest })
  return h(ActionDialog, { action: what, ...of, ...rest })
}
