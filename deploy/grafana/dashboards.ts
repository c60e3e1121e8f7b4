import type { Dashboard } from './dashboard.ts'
import { DATA_PLANE_DASHBOARD } from './data-plane-dashboard.ts'
import { FLEET_DASHBOARD } from './fleet-dashboard.ts'
import { TENANTS_DASHBOARD } from './tenants-dashboard.ts'

export const DASHBOARDS: readonly Dashboard[] = [
  FLEET_DASHBOARD,
  TENANTS_DASHBOARD,
  DATA_PLANE_DASHBOARD,
]
