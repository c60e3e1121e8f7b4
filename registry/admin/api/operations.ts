import { listAudit } from '../audit.ts'
import { listAdminKeys } from '../keys.ts'
import { listUsage } from '../usage-list.ts'
import { BILLING_OPERATIONS } from './billing-operations.ts'
import { LIVE_OPERATIONS } from './live-operations.ts'
import { MIGRATION_OPERATIONS } from './migration-operations.ts'
import { type Operation, operation } from './operation.ts'
import { PLAN_OPERATIONS } from './plan-operations.ts'
import { PROVISIONING_OPERATIONS } from './provisioning-operations.ts'
import { auditQuery, usageListQuery } from './queries.ts'
import { auditPageResult, holderResult, keysResult, usagePageResult } from './results.ts'
import { TENANT_OPERATIONS, thisMonth } from './tenant-operations.ts'

/** All operations of the admin API, in the order of the document. */
export const OPERATIONS: readonly Operation[] = [
  ...TENANT_OPERATIONS,
  ...LIVE_OPERATIONS,
  ...PROVISIONING_OPERATIONS,
  ...MIGRATION_OPERATIONS,
  ...PLAN_OPERATIONS,
  ...BILLING_OPERATIONS,
  operation({
    ...{ name: 'getTenantAudit', method: 'GET', path: '/tenants/:id/audit', scope: 'read' },
    summary: 'Who did what to it, the newest first; also of a tenant that is deleted',
    query: auditQuery,
    result: auditPageResult,
    run: async ({ deps, id, query }) => ({
      message: 'Audit.',
      result: await listAudit(deps, { tenantId: id, ...query }),
    }),
  }),
  operation({
    ...{ name: 'listUsage', method: 'GET', path: '/usage', scope: 'read' },
    summary: 'What tenants used in a month (UTC), a page of them; filters and pages as of tenants',
    query: usageListQuery,
    result: usagePageResult,
    run: async ({ deps, query: { month = thisMonth(), ...query } }) => ({
      message: 'Usage.',
      result: await listUsage(deps, query, month),
    }),
  }),
  operation({
    ...{ name: 'getAudit', method: 'GET', path: '/audit', scope: 'read' },
    summary: 'Who did what, the newest first',
    query: auditQuery,
    result: auditPageResult,
    run: async ({ deps, query }) => ({ message: 'Audit.', result: await listAudit(deps, query) }),
  }),
  operation({
    ...{ name: 'listKeys', method: 'GET', path: '/keys', scope: 'own' },
    summary: 'Named admin keys, without the keys; they are made by the command line',
    result: keysResult,
    run: async ({ deps }) => ({
      message: 'Admin keys.',
      result: { items: await listAdminKeys(deps) },
    }),
  }),
  operation({
    ...{ name: 'whoami', method: 'GET', path: '/whoami', scope: 'read' },
    summary: 'The key that the request came with, and its scope',
    result: holderResult,
    run: async ({ actor: { name, scope } }) => ({ message: 'Key.', result: { name, scope } }),
  }),
]
