import { Registry } from 'prom-client'
import t from 'tap'
import { TenantCache } from '../registry/cache.ts'
import { Keyring } from '../registry/envelope.ts'
import { Fault } from '../registry/lib/errors.ts'
import { makeLog } from '../registry/lib/log.ts'
import type { Tenant, TenantId } from '../registry/tenant.ts'
import { RegistryMetrics } from './registry-metrics.ts'

t.test('look-ups, stale answers and keys are counted, each stale answer once', async t => {
  const id = '00000000-0000-4000-8000-000000000001' as TenantId
  const tenant = { id, key: 'acme', status: 'active', configVersion: 1, tokenIssuer: null }
  let isDown = false
  let nowMs = 0
  const metrics = new RegistryMetrics()
  const cache = new TenantCache({
    load: async ref => {
      if (isDown) throw new Fault('REGISTRY_UNAVAILABLE', 'down')
      return ref.by === 'id' && ref.id === id ? (tenant as unknown as Tenant) : null
    },
    log: makeLog('test', 'silent'),
    now: () => nowMs,
    metrics,
  })
  const keyring = await Keyring.derive(['a'.repeat(64), 'b'.repeat(64)])
  const registry = new Registry()
  const watch = { counts: { notice: 7, gap: 1 } }
  metrics.show(registry, { watch, cache, keyring })
  const shows = async (...lines: readonly string[]) => {
    const text = await registry.metrics()
    for (const line of lines) t.ok(text.split('\n').includes(line), line)
  }

  await cache.get({ by: 'id', id })
  cache.peek({ by: 'id', id })
  await cache.get({ by: 'id', id: id.replace(/1$/, '2') as TenantId })
  await shows(
    'doorman_registry_lookup_seconds_count{outcome="ok"} 1',
    'doorman_registry_lookup_seconds_count{outcome="absent"} 1',
    'doorman_tenant_stale_answers_total 0',
    'doorman_absent_tenants 1',
    'doorman_registry_watch_events_total{event="notice"} 7',
    'doorman_registry_watch_events_total{event="gap"} 1',
    `doorman_master_keys{key_id="${keyring.keyIds[0]}",use="encrypts"} 1`,
    `doorman_master_keys{key_id="${keyring.keyIds[1]}",use="decrypts"} 1`,
  )
  isDown = true
  nowMs = 61_000
  await cache.get({ by: 'id', id })
  t.ok(cache.peek({ by: 'id', id }), 'served without asking again')
  await shows(
    'doorman_tenant_stale_answers_total 2',
    'doorman_registry_lookup_seconds_count{outcome="error"} 1',
  )
  watch.counts.notice = 9
  await shows('doorman_registry_watch_events_total{event="notice"} 9')
})
