import type { TenantItem } from '../../../admin/item.ts'
import type { Pulse } from '../../../live/pulse.ts'
import { call, queryString } from '../lib/api.ts'
import { ago, bytes, count, DASH, ms, percent, rate, time } from '../lib/format.ts'
import { h, html, type View } from '../lib/html.ts'
import { usePolled } from '../lib/poll.ts'
import { Link } from '../lib/route.ts'
import { useMay } from '../lib/session.ts'
import { trafficOf } from '../lib/traffic.ts'
import { type Fact, Facts } from '../ui/facts.ts'
import { Badge } from '../ui/status.ts'
import { Trend } from '../ui/trend.ts'
import type { TenantViewProps } from './tenant.ts'

const PULSE_MS = 5000

/** What the tenant is, and how it does at the moment. */
export function TenantOverview({ tenant }: TenantViewProps): View {
  const may = useMay()
  const edit = may.operate
    ? h(Link, { to: `/tenants/${tenant.id}/edit`, class: 'button', children: 'Edit' })
    : null
  return html`
    ${h(TenantTrends, { id: tenant.id })}
    <div class="cards">
      <section class="card">
        <header class="card-head"><h2>Basics</h2>${edit}</header>
        ${h(Facts, { facts: basicsOf(tenant) })}
      </section>
      <section class="card">
        <header class="card-head"><h2>Database</h2></header>
        ${h(Facts, { facts: databaseOf(tenant) })}
      </section>
      <section class="card">
        <header class="card-head"><h2>Bucket</h2></header>
        ${h(Facts, { facts: bucketOf(tenant) })}
      </section>
      <section class="card">
        <header class="card-head"><h2>Plan and limits</h2></header>
        ${h(Facts, { facts: limitsOf(tenant) })}
        <p class="hint">A limit that is not set here is the plan’s, else the deployment’s.</p>
      </section>
      <section class="card">
        <header class="card-head"><h2>Tokens</h2></header>
        ${h(Facts, { facts: tokensOf(tenant) })}
      </section>
      <section class="card">
        <header class="card-head"><h2>Billing readiness</h2></header>
        ${h(Facts, { facts: billingOf(tenant) })}
      </section>
    </div>
  `
}

/** The last five minutes. */
export function TenantTrends({ id }: { id: string }): View {
  const pulse = usePolled(`pulse ${id}`, PULSE_MS, async signal => {
    const { result } = await call<Pulse>(`/pulse${queryString({ ids: id, step: '5' })}`, {
      signal,
      isPoll: true,
    })
    return result
  })
  const item = pulse.data?.items[0]
  if (pulse.data === null || item === undefined) {
    const text =
      pulse.error === null ? 'Asking the gateways…' : `No traffic to show: ${pulse.error.message}`
    return html`<section class="card trends"><p class="hint">${text}</p></section>`
  }
  const { now, perS, errors, p99Ms } = trafficOf(pulse.data, item)
  const missing = pulse.data.missing.length
  return html`<section class="card trends" aria-label="Traffic of the last five minutes">
    ${h(Trend, { title: 'Requests/s', figure: rate(now.perS), values: perS, floor: 1, since: '5 min' })}
    ${h(Trend, {
      ...{
        title: 'Failed by us',
        values: errors,
        floor: 0.05,
        tone: 'bad' as const,
        since: '5 min',
      },
      figure: now.requests === 0 ? DASH : percent(now.errorShare),
    })}
    ${h(Trend, { title: 'p99', figure: ms(now.p99Ms), values: p99Ms, floor: 50, since: '5 min' })}
    ${missing === 0 ? null : html`<p class="hint">${missing} gateways did not answer: what they served is not in here.</p>`}
  </section>`
}

function basicsOf(tenant: TenantItem): Fact[] {
  return [
    ['Key', html`<code>${tenant.tenant_key}</code>`],
    ['Name', tenant.name],
    ['Id', html`<code>${tenant.id}</code>`],
    ['Mode', tenant.mode],
    ['Schema version', tenant.schema_version],
    ['Configuration', `version ${tenant.config_version}`],
    ['Own deployment', tenant.app_url],
    ['Created', time(tenant.created_at)],
    ['Changed', html`<span title=${time(tenant.updated_at)}>${ago(tenant.updated_at)}</span>`],
    ...(tenant.archived_at === null ? [] : [['Archived', time(tenant.archived_at)] as const]),
  ]
}

function databaseOf(tenant: TenantItem): Fact[] {
  return [
    ['Host', tenant.db_host === null ? null : `${tenant.db_host}:${tenant.db_port ?? 5432}`],
    ['Database', tenant.db_name],
    ['Role', tenant.db_user],
    ['Password', secret(tenant.has_db_password)],
    ['TLS', tenant.db_ssl_mode ?? 'as the deployment says'],
    ['Connections', tenant.db_pool_max ?? 'as the deployment says'],
  ]
}

function bucketOf(tenant: TenantItem): Fact[] {
  return [
    ['Provider', tenant.bucket_provider],
    ['Bucket', tenant.bucket_name],
    ['Prefix', tenant.bucket_prefix],
    ['Region', tenant.bucket_region],
    ['Endpoint', tenant.bucket_endpoint],
    ['Keys', secret(tenant.has_bucket_keys)],
  ]
}

/** Secrets are shown to nobody: only whether there is one. */
function secret(isSet: boolean): View {
  return isSet ? h(Badge, { text: 'set', tone: 'ok' }) : h(Badge, { text: 'not set' })
}

const LIMIT_NAMES: Readonly<Record<string, string>> = {
  requests_per_s: 'Requests/s',
  burst: 'Burst',
  in_flight: 'Requests at once',
  body_bytes: 'Body',
  sockets: 'Open sockets',
  requests_per_month: 'Requests a month',
  quota: 'Quota',
  weight: 'Weight',
  spread: 'Replicas',
}

function limitsOf({ plan, limits }: TenantItem): Fact[] {
  const own = Object.entries(Object(limits) as Record<string, unknown>).map(
    ([name, value]): Fact => [LIMIT_NAMES[name] ?? name, limitText(name, value)],
  )
  return [['Plan', plan], ...own]
}

function limitText(name: string, value: unknown): string {
  if (value === null) return 'no limit'
  if (typeof value !== 'number') return String(value)
  return name === 'body_bytes' ? bytes(value) : count(value)
}

function tokensOf(tenant: TenantItem): Fact[] {
  return [
    ['Issuer', tenant.token_issuer ?? 'the platform’s'],
    ['Keys', tenant.token_jwks_url],
    ['Audience', tenant.token_audience],
    [
      'Valid from',
      tenant.tokens_valid_after === null ? 'any time' : time(tenant.tokens_valid_after),
    ],
  ]
}

function billingOf({ billing_readiness: ready }: TenantItem): Fact[] {
  const badge = (is: boolean) =>
    is ? h(Badge, { text: 'ready', tone: 'ok' }) : h(Badge, { text: 'no' })
  return [
    ['By usage (shared)', badge(ready.shared_billing)],
    ['By deployment (dedicated)', badge(ready.dedicated_billing)],
  ]
}
