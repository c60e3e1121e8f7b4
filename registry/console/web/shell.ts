import { useEffect, useRef } from 'preact/hooks'
import { ApiError, call } from './lib/api.ts'
import { h, html, type View } from './lib/html.ts'
import { Notices, notify } from './lib/notice.ts'
import { Link, type Place, usePlace } from './lib/route.ts'
import { useHolder } from './lib/session.ts'
import { AuditPage } from './pages/audit.ts'
import { BillingPage } from './pages/billing.ts'
import { FleetPage } from './pages/fleet.ts'
import { MigrationPlanPage } from './pages/migration-plan.ts'
import { MigrationRunPage } from './pages/migration-run.ts'
import { MigrationsPage } from './pages/migrations.ts'
import { NoPage } from './pages/no-page.ts'
import { SettingsPage } from './pages/settings.ts'
import { TenantPage } from './pages/tenant.ts'
import { TenantCreate } from './pages/tenant-create.ts'
import { TenantEdit } from './pages/tenant-edit.ts'
import { TenantsPage } from './pages/tenants.ts'

/** What is in the bar above, and the page of each. */
const PAGES: readonly {
  readonly path: string
  readonly title: string
  readonly page: (place: Place) => View
}[] = [
  { path: 'tenants', title: 'Tenants', page: tenantPages },
  { path: 'fleet', title: 'Fleet', page: only(FleetPage) },
  { path: 'migrations', title: 'Migrations', page: migrationPages },
  { path: 'billing', title: 'Billing', page: billingPages },
  { path: 'audit', title: 'Audit', page: only(AuditPage) },
  { path: 'settings', title: 'Settings', page: only(SettingsPage) },
]

/** A page without others below it. */
function only(page: () => View): (place: Place) => View {
  return ({ parts }) => h(parts.length === 1 ? page : NoPage, {})
}

function billingPages({ parts: [, tab = '', more] }: Place): View {
  return more === undefined ? h(BillingPage, { tab }) : h(NoPage, {})
}

function migrationPages({ parts }: Place): View {
  const [, what, id, more] = parts
  if (what === undefined) return h(MigrationsPage, {})
  if (what === 'plan' && id === undefined) return h(MigrationPlanPage, {})
  if (what !== 'runs' || id === undefined || more !== undefined) return h(NoPage, {})
  return h(MigrationRunPage, { key: id, id })
}

function tenantPages({ parts }: Place): View {
  const [, id, tab = '', more] = parts
  if (more !== undefined) return h(NoPage, {})
  if (id === undefined) return h(TenantsPage, {})
  if (id === 'new') return h(TenantCreate, {})
  if (tab === 'edit') return h(TenantEdit, { key: id, id })
  return h(TenantPage, { key: id, id, tab })
}

const SCOPES = { read: 'read only', operate: 'operator', own: 'owner' } as const

/** The frame of every page. */
export function Shell({ onSignOut }: { onSignOut: () => void }): View {
  const place = usePlace()
  const holder = useHolder()
  const [here = ''] = place.parts
  const shown = PAGES.find(({ path }) => path === here)
  const nav = useRef<HTMLElement>(null)
  useEffect(() => {
    // On a narrow screen the bar is wider than what is seen of it.
    const link = nav.current?.querySelector('[aria-current]')
    link?.scrollIntoView({ block: 'nearest', inline: 'nearest' })
  }, [here])
  const signOut = async () => {
    try {
      await call('/session', { method: 'DELETE' })
      onSignOut()
    } catch (error) {
      // It has ended by itself.
      if (error instanceof ApiError && error.status === 401) return onSignOut()
      notify('The gateway did not answer: you are signed in still.', { isBad: true })
    }
  }
  return html`
    <a class="skip" href="#main">Skip to the content</a>
    <header class="bar">
      ${h(Link, { to: '/tenants', class: 'brand', children: 'Doorman' })}
      <nav ref=${nav} aria-label="Pages">
        ${PAGES.map(({ path, title }) => h(Link, { key: path, to: `/${path}`, isCurrent: path === here, children: title }))}
      </nav>
      <div class="who">
        <span class="key" title="The key that you signed in with">${holder.name}</span>
        <span class=${`badge ${holder.scope === 'read' ? 'info' : 'off'}`}>${SCOPES[holder.scope]}</span>
        <button type="button" class="plain" onClick=${signOut}>Sign out</button>
      </div>
    </header>
    <main id="main" tabindex="-1">${shown === undefined ? h(NoPage, {}) : shown.page(place)}</main>
    ${h(Notices, {})}
  `
}
