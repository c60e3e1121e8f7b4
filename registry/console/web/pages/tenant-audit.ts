import { h, type View } from '../lib/html.ts'
import { AuditTrail } from './audit-trail.ts'
import type { TenantViewProps } from './tenant.ts'

export function TenantAudit({ tenant: { id } }: TenantViewProps): View {
  return h(AuditTrail, { path: `/tenants/${id}/audit`, isOfOneTenant: true })
}
