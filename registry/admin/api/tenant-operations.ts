import { z } from 'zod'
import type { TenantStatus } from '../../tenant.ts'
import { createTenant } from '../create.ts'
import { endDebug, startDebug } from '../debug.ts'
import { createInput, detailsProbeInput, patchInput, probeInput, wrongField } from '../fields.ts'
import { getTenant, listTenants } from '../list.ts'
import { moveInput, moveTenantBy } from '../move.ts'
import { streamMove } from '../move-stream.ts'
import { patchTenant } from '../patch.ts'
import { testConnection, testDetails } from '../probe.ts'
import { provisionInput } from '../provision-input.ts'
import { provisionTenant } from '../provisioning.ts'
import { removeTenant } from '../remove.ts'
import { rotateCredentials } from '../rotate.ts'
import { revokeTenantSessions } from '../sessions.ts'
import { setTenantStatus, unarchiveTenant } from '../status.ts'
import { usageOf } from '../usage.ts'
import { type Operation, operation } from './operation.ts'
import { provisioningPath } from './provisioning-operations.ts'
import { acceptedResult } from './provisioning-results.ts'
import { debugBody, listQuery, reasonBody, removeBody, removeQuery, usageQuery } from './queries.ts'
import {
  connectionResult,
  movedResult,
  moveEventResult,
  removedResult,
  tenantPageResult,
  tenantResult,
  usageResult,
} from './results.ts'

/** What can be done with tenants. */
export const TENANT_OPERATIONS: readonly Operation[] = [
  operation({
    ...{ name: 'listTenants', method: 'GET', path: '/tenants', scope: 'read' },
    summary: 'Tenants, one page of them, by mode, status and search text',
    query: listQuery,
    result: tenantPageResult,
    run: async ({ deps, query }) => ({
      message: 'Tenants.',
      result: await listTenants(deps, query),
    }),
  }),
  operation({
    ...{ name: 'createTenant', method: 'POST', path: '/tenants', scope: 'operate' },
    summary:
      'Register a tenant whose database exists, its details being tested first; or, with provision, make it',
    body: z.union([createInput, provisionInput]),
    bodyFor: given => (Object(given).provision === undefined ? createInput : provisionInput),
    result: tenantResult,
    ...{ status: 201, accepted: acceptedResult, isVersioned: true },
    run: async ({ deps, actor, body, idempotencyKey }) => {
      if (!('provision' in body)) {
        const result = await createTenant(deps, actor, body, idempotencyKey)
        return { message: 'Tenant created.', result }
      }
      const result = await provisionTenant(deps, actor, body, idempotencyKey)
      const location = provisioningPath(result.tenant_id)
      return { message: 'The tenant is being made.', result, status: 202, location }
    },
  }),
  operation({
    ...{ name: 'getTenant', method: 'GET', path: '/tenants/:id', scope: 'read' },
    summary: 'One tenant',
    result: tenantResult,
    isVersioned: true,
    run: async ({ deps, id }) => ({ message: 'Tenant.', result: await getTenant(deps, id) }),
  }),
  operation({
    ...{ name: 'updateTenant', method: 'PATCH', path: '/tenants/:id', scope: 'operate' },
    summary: 'Change what is named and leave the rest; new details are tested first',
    body: patchInput,
    result: tenantResult,
    isVersioned: true,
    run: async ({ deps, actor, id, body, expected }) => ({
      message: 'Tenant changed.',
      result: await patchTenant(deps, actor, id, body, expected.ifMatch ?? null),
    }),
  }),
  operation({
    ...{ name: 'deleteTenant', method: 'DELETE', path: '/tenants/:id', scope: 'operate' },
    summary: 'Delete an archived tenant after its grace period, or by force (scope own)',
    query: removeQuery,
    body: removeBody,
    result: removedResult,
    run: async ({ deps, actor, id, query, body, expected }) => {
      const confirm = body.confirm ?? query.confirm
      if (confirm === undefined) throw wrongField('confirm', 'is required: the key of the tenant')
      const force = body.force ?? query.force === 'true'
      const removal = { confirm, force, reason: body.reason }
      return {
        message: 'Tenant deleted; its database and bucket are as they were.',
        result: await removeTenant(deps, actor, id, removal, expected),
      }
    },
  }),
  move('suspendTenant', 'suspend', 'suspended', 'Refuse all its requests'),
  move('activateTenant', 'activate', 'active', 'Serve it'),
  move('maintainTenant', 'maintenance', 'maintenance', 'Answer 503 for it, with Retry-After'),
  move('archiveTenant', 'archive', 'archived', 'Take it out of service for good'),
  operation({
    ...{
      name: 'unarchiveTenant',
      method: 'POST',
      path: '/tenants/:id/unarchive',
      scope: 'operate',
    },
    summary: 'Take an archived tenant back; it is suspended then',
    body: reasonBody,
    result: tenantResult,
    isVersioned: true,
    run: async ({ deps, actor, id, body, expected }) => ({
      message: 'Tenant is suspended.',
      result: await unarchiveTenant(deps, actor, id, body.reason, expected),
    }),
  }),
  operation({
    ...{ name: 'moveTenant', method: 'POST', path: '/tenants/:id/move', scope: 'own' },
    summary: 'Copy it into another database while its requests wait; answers when it is done',
    body: moveInput,
    result: movedResult,
    run: async ({ deps, actor, id, body, expected, gone }) => {
      const result = await moveTenantBy(deps, actor, id, body, expected, gone)
      return { message: body.dry_run ? 'Tenant can be moved.' : 'Tenant has moved.', result }
    },
  }),
  operation({
    ...{ name: 'followMove', method: 'POST', path: '/tenants/:id/move/events', scope: 'own' },
    summary:
      'The same, told as it goes: step before each, then moved or failed, with which the stream ends',
    body: moveInput,
    result: moveEventResult,
    isStream: true,
    run: async ({ deps, actor, id, body, expected, gone }) => ({
      events: await streamMove(told => moveTenantBy(deps, actor, id, body, expected, gone, told)),
    }),
  }),
  operation({
    ...{ name: 'testConnection', method: 'POST', scope: 'operate' },
    path: '/tenants/:id/test-connection',
    summary: 'Connect to its database and bucket, with details of the body in place of the saved',
    body: probeInput.default({}),
    result: connectionResult,
    run: async ({ deps, actor, id, body }) => {
      const result = await testConnection(deps, actor, id, body)
      return { message: result.ok ? 'The connections work.' : 'A connection fails.', result }
    },
  }),
  operation({
    ...{ name: 'testDetails', method: 'POST', path: '/test-connection', scope: 'operate' },
    summary: 'Connect to the database and bucket of a tenant that is not registered yet',
    body: detailsProbeInput,
    result: connectionResult,
    run: async ({ deps, body }) => {
      const result = await testDetails(deps, body)
      return { message: result.ok ? 'The connections work.' : 'A connection fails.', result }
    },
  }),
  operation({
    ...{ name: 'rotateCredentials', method: 'POST', scope: 'operate' },
    path: '/tenants/:id/rotate-credentials',
    summary: 'Give its database role a new random password, and save it',
    body: reasonBody,
    result: tenantResult,
    isVersioned: true,
    run: async ({ deps, actor, id, body, expected }) => ({
      message: 'The database has a new password.',
      result: await rotateCredentials(deps, actor, id, body.reason, expected),
    }),
  }),
  operation({
    ...{ name: 'revokeSessions', method: 'POST', scope: 'operate' },
    path: '/tenants/:id/revoke-sessions',
    summary: 'Sign everyone out: tokens issued until now are refused',
    body: reasonBody,
    result: tenantResult,
    isVersioned: true,
    run: async ({ deps, actor, id, body, expected }) => ({
      message: 'All sessions are revoked.',
      result: await revokeTenantSessions(deps, actor, id, body.reason, expected),
    }),
  }),
  operation({
    ...{ name: 'startDebug', method: 'POST', path: '/tenants/:id/debug', scope: 'operate' },
    summary:
      'Log each of its requests with timings and reasons, and keep its traces, for some minutes',
    body: debugBody,
    result: tenantResult,
    isVersioned: true,
    run: async ({ deps, actor, id, body, expected }) => ({
      message: 'Its requests are logged.',
      result: await startDebug(deps, actor, id, body, expected),
    }),
  }),
  operation({
    ...{ name: 'endDebug', method: 'DELETE', path: '/tenants/:id/debug', scope: 'operate' },
    summary: 'End that before its time',
    result: tenantResult,
    isVersioned: true,
    run: async ({ deps, actor, id, expected }) => ({
      message: 'Its requests are logged like all others.',
      result: await endDebug(deps, actor, id, expected),
    }),
  }),
  operation({
    ...{ name: 'getUsage', method: 'GET', path: '/tenants/:id/usage', scope: 'read' },
    summary:
      'What it used in a month (UTC), and the score of that; this month by default, with daily=true all that is counted of each day',
    query: usageQuery,
    result: usageResult,
    run: async ({ deps, id, query }) => ({
      message: 'Usage.',
      result: await usageOf(deps, id, query.month ?? thisMonth(), query.daily === 'true'),
    }),
  }),
]

/** By UTC, as days are counted. */
export function thisMonth(): string {
  return new Date().toISOString().slice(0, 7)
}

function move(name: string, verb: string, to: TenantStatus, summary: string): Operation {
  return operation({
    ...{ name, method: 'POST', path: `/tenants/:id/${verb}`, scope: 'operate', summary },
    body: reasonBody,
    result: tenantResult,
    isVersioned: true,
    run: async ({ deps, actor, id, body, expected }) => ({
      message: `Tenant is ${to}.`,
      result: await setTenantStatus(deps, actor, id, to, body.reason, expected),
    }),
  })
}
