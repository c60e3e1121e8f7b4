import { Fault } from '../../registry/lib/errors.ts'
import type { TenantId } from '../../registry/tenant.ts'

export type EventListener = (event: string, data: unknown) => void

/** What happens in a tenant on this replica, told to that tenant's listeners and to nobody else. */
export class TenantEvents {
  readonly #listeners = new Map<TenantId, Set<EventListener>>()
  readonly #perTenantMax: number

  constructor(perTenantMax: number) {
    this.#perTenantMax = perTenantMax
  }

  /** @throws Fault TENANT_UNAVAILABLE where the tenant has as many listeners as it may */
  subscribe(tenant: TenantId, listener: EventListener): () => void {
    const listeners = this.#listeners.get(tenant) ?? new Set()
    if (listeners.size >= this.#perTenantMax) {
      throw new Fault('TENANT_UNAVAILABLE', 'too many event streams: STREAMS_PER_TENANT_MAX')
    }
    listeners.add(listener)
    this.#listeners.set(tenant, listeners)
    return () => {
      listeners.delete(listener)
      if (listeners.size === 0 && this.#listeners.get(tenant) === listeners) {
        this.#listeners.delete(tenant)
      }
    }
  }

  publish(tenant: TenantId, event: string, data: unknown): void {
    for (const listener of this.#listeners.get(tenant) ?? []) listener(event, data)
  }
}
