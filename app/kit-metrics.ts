import { Counter, Gauge, Histogram, type Registry } from 'prom-client'
import type { KitEvents } from './kit/kit-events.ts'
import type { TenantBuckets } from './kit/tenant-buckets.ts'
import type { PoolFigures, TenantPools } from './kit/tenant-pools.ts'

/** States of a connection, as label values. */
const STATES = ['connecting', 'idle', 'active', 'closing'] as const

/** The state of pools and clients, read when it is asked for. No label names a tenant or a host. */
export function gaugeKit(registry: Registry, pools: TenantPools, buckets: TenantBuckets): void {
  const registers = [registry]
  const gauge = (name: string, help: string, read: () => number) =>
    new Gauge({
      name,
      help,
      registers,
      collect() {
        this.set(read())
      },
    })
  const figure = (name: string, help: string, key: keyof PoolFigures) =>
    gauge(name, help, () => pools.figures[key])

  new Gauge({
    name: 'doorman_app_db_connections',
    help: 'Connections to tenant databases. Nearly all active: statements are slow or pools small. Connecting that stays up: a server that hangs.',
    labelNames: ['state'],
    registers,
    collect() {
      const { figures } = pools
      for (const state of STATES) this.set({ state }, figures[state])
    },
  })
  figure(
    'doorman_app_db_connections_used',
    'Slots of the budget in use. At doorman_app_db_connections_max tenants take turns: raise DB_GLOBAL_POOL_MAX or add replicas.',
    'connections',
  )
  figure(
    'doorman_app_db_connections_max',
    'Budget of the replica: DB_GLOBAL_POOL_MAX. Compare with doorman_app_db_connections_used.',
    'connectionsMax',
  )
  figure(
    'doorman_app_db_host_connections_used',
    'Connections to the database server that has most. At doorman_app_db_host_connections_max its tenants take turns: raise DB_HOST_POOL_MAX if the server can take replicas x that many, else move tenants.',
    'connectionsOfBusiestServer',
  )
  figure(
    'doorman_app_db_host_connections_max',
    'Budget per database server: DB_HOST_POOL_MAX. Compare with doorman_app_db_host_connections_used.',
    'connectionsPerServerMax',
  )
  figure(
    'doorman_app_pools',
    'Tenant pools that exist. At DB_POOLS_MAX idle ones are ended for new ones.',
    'pools',
  )
  figure(
    'doorman_app_pool_leases',
    'Requests that use a pool now. Rises without end: handlers hang, or statements do.',
    'leases',
  )
  figure(
    'doorman_app_pool_waiting',
    'Requests that wait for a connection. Above 0 for long: slow statements, small pools, or a budget that is used up.',
    'waiting',
  )
  figure(
    'doorman_app_pools_in_line',
    'Tenants that wait for their turn at the budget. Above 0 for long: the budget is too small for the load, not one tenant’s pool.',
    'poolsInLine',
  )
  new Gauge({
    name: 'doorman_app_breakers_open',
    help: 'Tenants whose database or bucket is not tried for a while. One: see that tenant. Many at once: see the server or the network that they share.',
    labelNames: ['kind'],
    registers,
    collect() {
      this.set({ kind: 'database' }, pools.figures.breakersOpen)
      this.set({ kind: 'bucket' }, buckets.breakersOpen)
    },
  })
  gauge(
    'doorman_app_bucket_clients',
    'S3 clients that exist. At BUCKET_CLIENTS_MAX idle ones are ended for new ones.',
    () => buckets.clients,
  )
  gauge(
    'doorman_app_bucket_leases',
    'File operations that run now. Rises without end: the bucket’s provider is slow, or clients read slowly.',
    () => buckets.leases,
  )
}

/** Counters of what happens in the kit. */
export function countKitEvents(registers: Registry[]): KitEvents {
  const waits = new Histogram({
    name: 'doorman_app_pool_wait_seconds',
    help: 'Wait of requests that found no idle connection, its opening included. A few ms are a connect; hundreds mean a pool or a budget that is too small.',
    buckets: [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5],
    registers,
  })
  const counter = <Label extends string>(name: string, label: Label, help: string) =>
    new Counter({ name, help, labelNames: [label], registers })
  const evictions = counter(
    'doorman_app_db_evictions_total',
    'reason',
    'Closed for another tenant: idle connections (idle), connections whose turn was over (turn), idle pools (pool). A steady rate of turn: the budget is too small and reconnects cost time. Of pool: raise DB_POOLS_MAX.',
  )
  const cancels = counter(
    'doorman_app_db_cancels_total',
    'result',
    'Statements whose client left: cancelled; ended by itself (late); connection cut, for the server gave no word (failed). Many cancelled: clients or the gateway give up on slow statements. Failed: the database host or a pooler loses cancel requests.',
  )
  const timeouts = counter(
    'doorman_app_db_timeouts_total',
    'kind',
    'Time-outs: connect (DB_CONNECT_TIMEOUT_MS: network, host), checkout (DB_CHECKOUT_TIMEOUT_MS: see doorman_app_pool_waiting), statement (DB_STATEMENT_TIMEOUT_MS: a slow query or a lock), idle_in_transaction (a handler that waits for something else within a transaction).',
  )
  const trips = counter(
    'doorman_app_breaker_trips_total',
    'kind',
    'Breakers that opened, or stayed open after a probe. A steady rate: something of a tenant is down, see the reason in the log.',
  )
  return {
    waited: ms => waits.observe(ms / 1000),
    evicted: reason => evictions.inc({ reason }),
    cancelled: result => cancels.inc({ result }),
    timedOut: kind => timeouts.inc({ kind }),
    broke: kind => trips.inc({ kind }),
  }
}
