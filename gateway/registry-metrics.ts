import { Counter, Gauge, Histogram, type Registry } from 'prom-client'
import type { TenantCache, TenantCacheMetrics } from '../registry/cache.ts'
import type { Keyring } from '../registry/envelope.ts'
import { showCounts } from '../registry/lib/show-counts.ts'
import type { TenantWatch } from '../registry/watch.ts'

/** What the metrics show of the parts that follow the Registry. */
export interface RegistryParts {
  readonly watch: Pick<TenantWatch, 'counts'>
  readonly cache: Pick<TenantCache, 'absentSize'>
  readonly keyring: Pick<Keyring, 'keyIds'>
}

/** How the tenants that are served compare with the Registry. All of it is counted off the hot path. */
export class RegistryMetrics implements TenantCacheMetrics {
  readonly #lookups = new Histogram({
    name: 'doorman_registry_lookup_seconds',
    help: 'Look-ups of tenants in the Registry by outcome: ok, absent, error. A rise of error: the Registry is down or slow. Of ok without a change of load: caches that are too small. Of absent: somebody tries ids or keys.',
    labelNames: ['outcome'] as const,
    buckets: [0.001, 0.005, 0.025, 0.1, 0.5, 2.5],
    registers: [],
  })
  readonly #stale = new Counter({
    name: 'doorman_tenant_stale_answers_total',
    help: 'Tenants given out from memory because the Registry could not be asked. A rise: it is down, and tenants are served as they were last seen, 5 minutes at most.',
    registers: [],
  })
  readonly #overtaken = new Counter({
    name: 'doorman_registry_lookups_overtaken_total',
    help: 'Look-ups done again because their tenant changed meanwhile. Harmless; many of them are a tenant that is changed in a loop.',
    registers: [],
  })

  onLoad(outcome: 'ok' | 'absent' | 'error', ms: number): void {
    this.#lookups.observe({ outcome }, ms / 1000)
  }

  onStale(): void {
    this.#stale.inc()
  }

  onOvertaken(): void {
    this.#overtaken.inc()
  }

  /** Adds them to `registry`, and those that are read off `parts` at scrape time. */
  show(registry: Registry, { watch, cache, keyring }: RegistryParts): void {
    for (const metric of [this.#lookups, this.#stale, this.#overtaken]) {
      registry.registerMetric(metric as Counter)
    }
    showCounts(
      registry,
      'doorman_registry_watch_events_total',
      'What the watch of the Registry met: notice, catch-up, catch-up-failed, gap, listener-lost. gap: all tenants were read anew. listener-lost and catch-up-failed beside each other: the Registry was away; the first alone: what stands between (a pooler, a firewall) drops connections that are silent.',
      'event',
      () => watch.counts,
    )
    new Gauge({
      name: 'doorman_absent_tenants',
      help: 'Ids, keys and issuers remembered to be of no tenant. Near 4096 for long: somebody tries ids or keys of tenants.',
      aggregator: 'max',
      registers: [registry],
      collect() {
        this.set(cache.absentSize)
      },
    })
    const keys = new Gauge({
      name: 'doorman_master_keys',
      help: 'Master keys that this gateway was given, by id and use: encrypts, decrypts; with workers, how many of them have it. Before a rotation every gateway must show the new key’s id.',
      labelNames: ['key_id', 'use'] as const,
      registers: [registry],
    })
    for (const [i, keyId] of keyring.keyIds.entries()) {
      keys.set({ key_id: keyId, use: i === 0 ? 'encrypts' : 'decrypts' }, 1)
    }
  }
}
