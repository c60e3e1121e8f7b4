import {
  addDatabaseHost,
  changeDatabaseHost,
  getDatabaseHost,
  hostChange,
  hostInput,
  listDatabaseHosts,
  removeDatabaseHost,
} from '../database-hosts.ts'
import { retryBody, undoBody } from '../provision-input.ts'
import { provisioningOf, retryProvisioning, undoProvisioning } from '../provisioning.ts'
import { type Operation, operation } from './operation.ts'
import {
  hostRemovedResult,
  hostResult,
  hostsResult,
  provisioningResult,
} from './provisioning-results.ts'

/** Where a client looks how far the making of a tenant has come; below /api/admin. */
export const provisioningPath = (id: string) => `/tenants/${id}/provisioning`

/** The making of tenants, and the servers that it is done on. */
export const PROVISIONING_OPERATIONS: readonly Operation[] = [
  operation({
    ...{ name: 'getProvisioning', method: 'GET', scope: 'read' },
    path: '/tenants/:id/provisioning',
    summary: 'How far the making of a tenant has come; 404 once it is undone',
    result: provisioningResult,
    run: async ({ deps, id }) => ({
      message: 'Provisioning.',
      result: await provisioningOf(deps, id),
    }),
  }),
  operation({
    ...{ name: 'retryProvisioning', method: 'POST', scope: 'operate' },
    path: '/tenants/:id/provisioning/retry',
    summary: 'Go on with a run that failed or was interrupted, with other secrets where given',
    body: retryBody,
    result: provisioningResult,
    status: 202,
    run: async ({ deps, actor, id, body }) => ({
      message: 'The tenant is being made.',
      result: await retryProvisioning(deps, actor, id, body),
      location: provisioningPath(id),
    }),
  }),
  operation({
    ...{ name: 'undoProvisioning', method: 'POST', scope: 'operate' },
    path: '/tenants/:id/provisioning/undo',
    summary: 'Take back all that an unfinished run has made, the tenant included',
    body: undoBody,
    result: provisioningResult,
    status: 202,
    run: async ({ deps, actor, id, body }) => ({
      message: 'All is being taken back.',
      result: await undoProvisioning(deps, actor, id, body.reason),
      location: provisioningPath(id),
    }),
  }),
  operation({
    ...{ name: 'listDatabaseHosts', method: 'GET', path: '/database-hosts', scope: 'read' },
    summary: 'Servers that tenants’ databases are made on, without their passwords',
    result: hostsResult,
    run: async ({ deps }) => ({
      message: 'Database hosts.',
      result: { items: await listDatabaseHosts(deps) },
    }),
  }),
  operation({
    ...{ name: 'addDatabaseHost', method: 'POST', path: '/database-hosts', scope: 'own' },
    summary: 'Add a server; its role is tested first, and needs CREATEROLE and CREATEDB',
    body: hostInput,
    result: hostResult,
    status: 201,
    run: async ({ deps, actor, body }) => ({
      message: 'Database host added.',
      result: await addDatabaseHost(deps, actor, body),
      location: `/database-hosts/${body.name}`,
    }),
  }),
  operation({
    ...{ name: 'getDatabaseHost', method: 'GET', path: '/database-hosts/:name', scope: 'read' },
    summary: 'One server',
    result: hostResult,
    run: async ({ deps, name }) => ({
      message: 'Database host.',
      result: await getDatabaseHost(deps, name),
    }),
  }),
  operation({
    ...{ name: 'changeDatabaseHost', method: 'PATCH', scope: 'own' },
    path: '/database-hosts/:name',
    summary: 'Change what is named and leave the rest; what comes of it is tested first',
    body: hostChange,
    result: hostResult,
    run: async ({ deps, actor, name, body }) => ({
      message: 'Database host changed.',
      result: await changeDatabaseHost(deps, actor, name, body),
    }),
  }),
  operation({
    ...{ name: 'removeDatabaseHost', method: 'DELETE', scope: 'own' },
    path: '/database-hosts/:name',
    summary: 'Make no more databases on it; tenants there stay as they are',
    result: hostRemovedResult,
    run: async ({ deps, actor, name }) => {
      await removeDatabaseHost(deps, actor, name)
      return { message: 'Database host removed.', result: { name } }
    },
  }),
]
