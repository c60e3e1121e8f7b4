import { Gauge, type Registry } from 'prom-client'
import { exchangeShares } from '../../registry/admission-shares.ts'
import type { Log } from '../../registry/lib/log.ts'
import { showCounts } from '../../registry/lib/show-counts.ts'
import type { Membership } from '../../registry/membership.ts'
import { readPlans } from '../../registry/plans.ts'
import type { RegistryStore } from '../../registry/store.ts'
import type { Tenant } from '../../registry/tenant.ts'
import type { GatewayConfig } from '../config.ts'
import type { TimerWheel } from '../http1/timer-wheel.ts'
import { RecentCache } from '../recent.ts'
import { Admission } from './admission.ts'
import { Gate } from './gate.ts'
import { PlanBook } from './plan-book.ts'
import { Quotas, readMonthlyUsage } from './quota.ts'
import { Shares } from './shares.ts'
import { Tarpit } from './tarpit.ts'

export interface OpenAdmissionOptions {
  readonly config: GatewayConfig
  readonly store: RegistryStore
  readonly membership: Membership
  readonly wheel: TimerWheel
  /** That tenants are spread on now. */
  readonly replicas: () => number
  readonly metrics: Registry
  readonly log: Log
}

export interface OpenAdmission {
  readonly admission: Admission
  readonly gate: Gate
  readonly tarpit: Tarpit
  /** What forwarding needs of both. */
  readonly forwarding: Pick<Admission, 'addFields' | 'openStream'>
  readonly plans: PlanBook
  /** Another process waits for parts of limits. */
  readonly onShareWanted: (instance: string) => void
  /** After membership, and before the first tenant is served. @throws Fault REGISTRY_UNAVAILABLE */
  load(): Promise<void>
  close(): void
}

/** Misconfigured tenants whose version is remembered, so that each is logged once. */
const COMPLAINTS_MAX = 1000

/** The admission of a gateway, tied to the Registry and to the metrics. */
export function openAdmission(options: OpenAdmissionOptions): OpenAdmission {
  const { config, store, membership, wheel, replicas, metrics, log } = options
  const plans = new PlanBook({
    read: () => readPlans(store),
    onChange: () => admission.renew(),
    log,
  })
  const quotas = new Quotas({
    read: tenants => readMonthlyUsage(store, tenants),
    slots: () => admission.withQuota(),
    log,
  })
  const shares = new Shares({
    exchange: turn => exchangeShares(store, turn),
    instance: () => membership.id,
    demands: isNear => admission.demands(isNear),
    onChange: tenant => (tenant === null ? admission.renew() : admission.renewOne(tenant)),
    log,
  })
  const admission = new Admission({
    isOn: config.ADMISSION === 'on',
    planOf: code => plans.get(code),
    standard: config.TENANT_LIMITS,
    partOf: (tenant, kind) => shares.partOf(tenant, kind),
    onShort: (tenant, kind) => shares.hurry(tenant, kind),
    quotas,
    onMalformed: makeComplain(log),
    slotsMax: config.TENANT_CACHE_ENTRIES,
  })
  const connections = config.UPSTREAM_CONNECTIONS_MAX
  const isOn = config.ADMISSION === 'on'
  const fixedMax = isOn ? config.FORWARDED_MAX : Number.POSITIVE_INFINITY
  const gate = new Gate({
    cap: () => (fixedMax > 0 ? fixedMax : connections * Math.max(1, replicas())),
    waitersMax: config.FAIR_QUEUE_MAX,
    waitMs: config.FAIR_QUEUE_WAIT_MS,
    wheel,
  })
  const tarpit = new Tarpit(config.REFUSALS_HELD_MAX)
  showGate(metrics, gate)
  showTarpit(metrics, tarpit)
  showAdmission(metrics, admission, quotas)
  showShares(metrics, shares)
  return {
    admission,
    gate,
    tarpit,
    forwarding: {
      addFields: (headers, exchange) => admission.addFields(headers, exchange),
      openStream(exchange) {
        const refusal = admission.openStream(exchange)
        // It stays as long as its client likes; the limit on sockets is for it.
        if (refusal === null) gate.leave(exchange)
        return refusal
      },
    },
    plans,
    onShareWanted: instance => {
      if (instance !== membership.id) shares.onWanted()
    },
    async load() {
      await plans.load()
      if (config.ADMISSION === 'on') await shares.join()
      quotas.start()
      admission.start()
    },
    close() {
      shares.close()
      plans.close()
      quotas.close()
      gate.close()
      tarpit.close()
      admission.close()
    },
  }
}

/** Once for each version of a tenant's row. */
function makeComplain(log: Log) {
  const told = new RecentCache<{ readonly version: number }>(COMPLAINTS_MAX)
  return ({ id, key, configVersion: version }: Tenant, what: string) => {
    const name = `${id} ${what}`
    if (told.get(name)?.version === version) return
    told.set(name, { version })
    log.error({ tenantId: id, tenant: key, what }, 'a limit that is none: it counts as not set')
  }
}

function showAdmission(registry: Registry, admission: Admission, { events }: Quotas): void {
  const registers = [registry]
  showCounts(
    registry,
    'doorman_admission_refused_total',
    'Requests refused by a limit of their tenant. rate of one tenant without an end: see the access log for whose; its plan is too small, or it floods.',
    'limit',
    () => admission.refused,
  )
  showCounts(
    registry,
    'doorman_quota_events_total',
    'Tenants whose monthly quota was found used up, once per process and month. The log says which: sell it a larger plan.',
    'quota',
    () => events,
  )
  new Gauge({
    name: 'doorman_admission_tenants',
    help: 'Tenants whose use is counted: those of the last minute. Far above the usual: somebody uses tokens of many tenants.',
    aggregator: 'max',
    registers,
    collect() {
      this.set(admission.size)
    },
  })
}

function showShares(registry: Registry, shares: Shares): void {
  const registers = [registry]
  new Gauge({
    name: 'doorman_admission_share',
    help: 'Part of the limits of all tenants that this process uses. The sum over all processes is 1, or less for some seconds after one came or went.',
    registers,
    collect() {
      this.set(shares.figures.even)
    },
  })
  new Gauge({
    name: 'doorman_admission_shares_by_demand',
    help: 'Limits of tenants of which this process uses another part than of the rest. Near 256 for long: so many tenants send unevenly, and more than their even part, that the others keep even parts.',
    aggregator: 'max',
    registers,
    collect() {
      this.set(shares.figures.byDemand)
    },
  })
  showCounts(
    registry,
    'doorman_admission_share_turns_total',
    'Exchanges of parts through the Registry, by outcome. failed grows: the Registry cannot be asked, and the parts stay as they are.',
    'outcome',
    () => shares.turns,
  )
}

function showTarpit(registry: Registry, tarpit: Tarpit): void {
  const registers = [registry]
  new Gauge({
    name: 'doorman_tarpit_waiting',
    help: 'Refusals of flooding tenants whose answer is kept for a fraction of a second. Above 0 for long: somebody ignores Retry-After; the access log says whose tokens.',
    registers,
    collect() {
      this.set(tarpit.size)
    },
  })
  showCounts(
    registry,
    'doorman_tarpit_total',
    'Refusals of tenants that are refused more than 100 times a second: held ones were answered later, those that found it full at once. full: raise REFUSALS_HELD_MAX, or lower CLIENT_CONNECTIONS_PER_ADDRESS_MAX.',
    'end',
    () => tarpit.counts,
  )
}

function showGate(registry: Registry, gate: Gate): void {
  const registers = [registry]
  new Gauge({
    name: 'doorman_requests_queued',
    help: 'Requests that wait for a connection to a replica, tenants taking turns. Above 0 for long: replicas are too few or too slow (doorman_upstream_seconds).',
    registers,
    collect() {
      this.set(gate.waiting)
    },
  })
  showCounts(
    registry,
    'doorman_queue_ends_total',
    'Requests that waited, or found the line full, by how that ended. late and full are UPSTREAM_BUSY to their clients.',
    'end',
    () => gate.ends,
  )
}
