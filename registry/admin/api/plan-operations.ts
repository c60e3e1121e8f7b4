import {
  changePlan,
  createPlan,
  getPlan,
  listPlans,
  planInput,
  planPatch,
  removePlan,
} from '../plans.ts'
import { type Operation, operation } from './operation.ts'
import { planRemovedResult, planResult, plansResult } from './results.ts'

/** What can be done with plans. */
export const PLAN_OPERATIONS: readonly Operation[] = [
  operation({
    ...{ name: 'listPlans', method: 'GET', path: '/plans', scope: 'read' },
    summary: 'All plans, and how many tenants have each',
    result: plansResult,
    run: async ({ deps }) => ({ message: 'Plans.', result: { items: await listPlans(deps) } }),
  }),
  operation({
    ...{ name: 'createPlan', method: 'POST', path: '/plans', scope: 'operate' },
    summary: 'Make a plan: limits that many tenants share',
    body: planInput,
    result: planResult,
    isVersioned: true,
    status: 201,
    run: async ({ deps, actor, body }) => ({
      message: 'Plan created.',
      result: await createPlan(deps, actor, body),
      location: `/plans/${body.code}`,
    }),
  }),
  operation({
    ...{ name: 'getPlan', method: 'GET', path: '/plans/:code', scope: 'read' },
    summary: 'One plan',
    result: planResult,
    isVersioned: true,
    run: async ({ deps, code }) => ({ message: 'Plan.', result: await getPlan(deps, code) }),
  }),
  operation({
    ...{ name: 'updatePlan', method: 'PATCH', path: '/plans/:code', scope: 'operate' },
    summary: 'Change what is named; all its tenants are held to it within a second',
    body: planPatch,
    result: planResult,
    isVersioned: true,
    run: async ({ deps, actor, code, body, expected }) => ({
      message: 'Plan changed.',
      result: await changePlan(deps, actor, code, body, expected),
    }),
  }),
  operation({
    ...{ name: 'deletePlan', method: 'DELETE', path: '/plans/:code', scope: 'operate' },
    summary: 'Delete a plan that no tenant has',
    result: planRemovedResult,
    run: async ({ deps, actor, code, expected }) => {
      await removePlan(deps, actor, code, expected)
      return { message: 'Plan deleted.', result: { code } }
    },
  }),
]
