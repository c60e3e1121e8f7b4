import { Counter, Gauge, type Registry } from 'prom-client'
import type { RegistryStore } from '../registry/store.ts'
import type { RetryBudget } from './upstream/retry.ts'

/** Parts with a bound, each read at scrape time. */
export interface BoundedParts {
  /** Name, size, bound. */
  readonly caches: () => readonly (readonly [string, number, number])[]
  readonly upstream: () => { readonly connections: number; readonly waiting: number }
  readonly retries: Pick<RetryBudget, 'saved' | 'refused'>
  readonly store: Pick<RegistryStore, 'connections'>
}

/** How full the parts are that have a bound: caches, pools, budgets. */
export function showParts(registry: Registry, parts: BoundedParts): void {
  const registers = [registry]
  new Gauge({
    name: 'doorman_cache_entries',
    help: 'Entries of each cache, of the fullest worker. At doorman_cache_entries_max for long: what was cached has to be asked or computed again (doorman_registry_lookup_seconds); raise its bound where there is memory.',
    labelNames: ['cache'] as const,
    aggregator: 'max',
    registers,
    collect() {
      for (const [cache, size] of parts.caches()) this.set({ cache: slug(cache) }, size)
    },
  })
  new Gauge({
    name: 'doorman_cache_entries_max',
    help: 'Bound of each cache, in each worker. To compare doorman_cache_entries with.',
    labelNames: ['cache'] as const,
    aggregator: 'max',
    registers,
    collect() {
      for (const [cache, , max] of parts.caches()) this.set({ cache: slug(cache) }, max)
    },
  })
  new Gauge({
    name: 'doorman_upstream_connections',
    help: 'Open connections to all replicas of the fleet. Near replicas x UPSTREAM_CONNECTIONS_MAX x workers: the app answers slowly, or there are few replicas.',
    registers,
    collect() {
      this.set(parts.upstream().connections)
    },
  })
  new Gauge({
    name: 'doorman_upstream_waiting',
    help: 'Requests that wait for a connection to a replica. Above 0 for long: UPSTREAM_BUSY comes next; add replicas, or raise UPSTREAM_CONNECTIONS_MAX if they can bear it.',
    registers,
    collect() {
      this.set(parts.upstream().waiting)
    },
  })
  new Gauge({
    name: 'doorman_retry_budget',
    help: 'Retries that may be made at once, in the worker that has fewest: each request earns a fifth of one. 0: replicas fail so often that no more is tried twice; see doorman_upstream_retries_total and the log.',
    aggregator: 'min',
    registers,
    collect() {
      this.set(parts.retries.saved)
    },
  })
  new Counter({
    name: 'doorman_retries_refused_total',
    help: 'Failed attempts that were not made again because the budget was used up. A rise: the fleet is sick as a whole, see doorman_replicas_healthy.',
    registers,
    collect() {
      this.reset()
      this.inc(parts.retries.refused)
    },
  })
  new Gauge({
    name: 'doorman_registry_connections',
    help: 'Connections to the Registry by state; waiting: calls in line for one. Waiting above 0 for long: the Registry is slow (doorman_registry_lookup_seconds) or REGISTRY_DB_POOL_MAX is small.',
    labelNames: ['state'] as const,
    registers,
    collect() {
      for (const [state, count] of Object.entries(parts.store.connections))
        this.set({ state }, count)
    },
  })
}

/** `tenants with traffic` as a label value. */
function slug(name: string): string {
  return name.replaceAll(' ', '_')
}
