import type { Tenant, TenantQuery } from '../registry/tenant.ts'

/** The part of the tenant cache that a request needs. */
export interface TenantSource {
  /** The fresh tenant; null: known not to exist; undefined: not known, `get` has to ask the Registry. */
  peek(ref: TenantQuery): Tenant | null | undefined
  /** @throws Fault REGISTRY_UNAVAILABLE */
  get(ref: TenantQuery): Promise<Tenant | null>
}
