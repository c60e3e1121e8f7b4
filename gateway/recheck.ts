import { Fault } from '../registry/lib/errors.ts'
import type { Log } from '../registry/lib/log.ts'
import { isSameIssuer, type Tenant, type TenantId } from '../registry/tenant.ts'
import type { Exchange } from './exchange.ts'
import { type OpenSockets, socketTokenOf } from './open-sockets.ts'
import { admitTenant } from './resolve.ts'
import type { TenantSource } from './tenant-source.ts'

export interface RecheckOptions {
  readonly tenants: TenantSource
  readonly sockets: OpenSockets
  readonly isRevoked: (exchange: Exchange) => boolean
  readonly log: Log
}

/**
 * Looks again whether what was admitted may stay open. While the Registry is down no tenant is known to
 * have changed.
 */
export interface Recheck {
  /** All that is open of a tenant, which changed. */
  tenant(id: TenantId): void
  /**
   * One exchange that has just been opened: its tenant or its token may have changed since it was
   * admitted. `cut` is called later or never.
   */
  opened(exchange: Exchange, cut: () => void): void
  /**
   * Keeps an answer among the sockets, and looks at it at once.
   *
   * @param goAway see `OpenSockets.add`
   * @returns to be called when it ended
   */
  guard(exchange: Exchange, cut: () => void, goAway: (() => void) | null): () => void
}

export function makeRecheck({ tenants, sockets, isRevoked, log }: RecheckOptions): Recheck {
  const find = async (id: TenantId) => {
    try {
      return await tenants.get({ by: 'id', id })
    } catch (error) {
      // A row that is not fit to be served may say that its tenant is suspended: fail closed.
      if (error instanceof Fault && error.code === 'TENANT_CONFIG_INVALID') return null
      log.debug({ err: error }, 'could not recheck sockets')
      return undefined
    }
  }

  const recheckTenant = async (id: TenantId) => {
    const tenant = await find(id)
    if (tenant === undefined) return
    if (tenant?.status !== 'active') return sockets.cutTenant(id)
    if (tenant.tokensValidAfterMs !== null) sockets.cutTenant(id, tenant.tokensValidAfterMs)
    const { tokenIssuer } = tenant
    sockets.cutTokens(id, ({ issuer }) => issuer !== null && !isSameIssuer(issuer, tokenIssuer))
  }

  const mayStay = async (exchange: Exchange) => {
    const tenant = await find((exchange.tenant as Tenant).id)
    if (isRevoked(exchange)) return false
    if (tenant === undefined) return true
    try {
      admitTenant(exchange, tenant)
      return true
    } catch {
      return false
    }
  }

  const opened = (exchange: Exchange, cut: () => void) => {
    void mayStay(exchange).then(may => {
      if (!may) cut()
    })
  }

  return {
    tenant: id => void recheckTenant(id),
    opened,
    guard(exchange, cut, goAway) {
      const { id } = exchange.tenant as Tenant
      const forget = sockets.add(id, socketTokenOf(exchange), cut, goAway)
      opened(exchange, cut)
      return forget
    },
  }
}
