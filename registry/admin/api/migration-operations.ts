import { planMigrations } from '../migration-plan.ts'
import {
  cancelMigrationRun,
  getMigrationRun,
  listMigrationRuns,
  migrationFailures,
  migrationsOf,
  type RunItem,
  retryMigrationRun,
  startMigrationRun,
} from '../migration-runs.ts'
import { fleetSummary } from '../migration-summary.ts'
import {
  failuresQuery,
  failuresResult,
  planQuery,
  planResult,
  retryBody,
  runBody,
  runResult,
  runsQuery,
  runsResult,
  summaryResult,
} from './migration-schemas.ts'
import { type Operation, operation } from './operation.ts'

const RUN = '/migrations/runs/:id'

/** The fleet's migrations. */
export const MIGRATION_OPERATIONS: readonly Operation[] = [
  operation({
    ...{ name: 'getMigrations', method: 'GET', path: '/migrations', scope: 'read' },
    summary: 'How the fleet stands: versions, laggards, what failed, the last runs',
    result: summaryResult,
    run: async ({ deps }) => ({ message: 'Fleet.', result: await fleetSummary(deps) }),
  }),
  operation({
    ...{ name: 'planMigrations', method: 'GET', path: '/migrations/plan', scope: 'read' },
    summary: 'What a run would do where, as the databases tell now; sql=true shows the files',
    query: planQuery,
    result: planResult,
    run: async ({ deps, query, gone }) => ({
      message: 'Plan.',
      result: await planMigrations(deps, query, gone),
    }),
  }),
  operation({
    ...{ name: 'listMigrationRuns', method: 'GET', path: '/migrations/runs', scope: 'read' },
    summary: 'Runs, the newest first, whoever started them',
    query: runsQuery,
    result: runsResult,
    run: async ({ deps, query: { limit } }) => ({
      message: 'Runs.',
      result: { items: await listMigrationRuns(deps, limit) },
    }),
  }),
  operation({
    ...{ name: 'startMigrationRun', method: 'POST', path: '/migrations/runs', scope: 'own' },
    summary: 'Begin a run of the fleet, or of some tenants; 409 names the one under way',
    body: runBody,
    result: runResult,
    status: 202,
    run: async ({ deps, actor, body }) =>
      begun('The run begins.', await startMigrationRun(deps, actor, body)),
  }),
  operation({
    ...{ name: 'getMigrationRun', method: 'GET', path: RUN, scope: 'read' },
    summary: 'State, counts, wave and speed of a run',
    result: runResult,
    run: async ({ deps, id }) => ({ message: 'Run.', result: await getMigrationRun(deps, id) }),
  }),
  operation({
    ...{ name: 'watchMigrationRun', method: 'GET', path: `${RUN}/events`, scope: 'read' },
    summary: 'Its progress as events: progress, failure, and end, with which the stream ends',
    result: runResult,
    isStream: true,
    run: async ({ deps, id, lastEventId, gone }) => ({
      events: await migrationsOf(deps).streams.open(deps.store, id, lastEventId, gone),
    }),
  }),
  operation({
    ...{ name: 'listMigrationFailures', method: 'GET', path: `${RUN}/failures`, scope: 'read' },
    summary: 'Tenants that it could not migrate, and why',
    query: failuresQuery,
    result: failuresResult,
    run: async ({ deps, id, query }) => ({
      message: 'Failures.',
      result: await migrationFailures(deps, id, query),
    }),
  }),
  operation({
    ...{ name: 'retryMigrationRun', method: 'POST', path: `${RUN}/retry`, scope: 'own' },
    summary: 'Begin a run for what this one left: what failed, or after its death all the rest',
    body: retryBody,
    result: runResult,
    status: 202,
    run: async ({ deps, actor, id, body }) =>
      begun('The retry begins.', await retryMigrationRun(deps, actor, id, body.what ?? null)),
  }),
  operation({
    ...{ name: 'cancelMigrationRun', method: 'POST', path: `${RUN}/cancel`, scope: 'operate' },
    summary: 'Finish what it has begun, and begin nothing more',
    result: runResult,
    status: 202,
    run: async ({ deps, actor, id }) =>
      begun('The run will end.', await cancelMigrationRun(deps, actor, id)),
  }),
]

function begun(message: string, run: RunItem) {
  return { message, result: run, location: `/migrations/runs/${run.id}` }
}
