import { z } from 'zod'
import { isReservedPath } from '../registry/lib/reserved-path.ts'

/** Where the tenant of a request comes from (DESIGN 4.1). */
export const CREDENTIALS = ['access_token', 'login', 'refresh_token', 'temp_token'] as const
export type Credential = (typeof CREDENTIALS)[number]

export interface Route {
  /** Label in logs and metrics. */
  readonly name: string
  readonly methods: readonly string[] | null
  /** Exact path, or a prefix where it ends in `/*`. */
  readonly path: string
  readonly credential: Credential
  /** A request that the app does not refuse (a status below 400) ends the access token it came with. */
  readonly revokes: boolean
  /** Members of a login body that may name the account; attempts are limited by the first that is there. */
  readonly account: readonly string[]
  /** What uses up the limits of a login route: refusals, or (where each one sends a mail) every request. */
  readonly counts: 'failures' | 'attempts'
  /**
   * Who words the refusals of a login route. The gateway gives one answer for all, so that a tenant that
   * exists and one that does not look alike; the app's own reach the client as they are.
   */
  readonly refusals: 'gateway' | 'app'
  /** Who answers: the app, or the gateway itself with what the tenant has used. */
  readonly answer: 'app' | 'usage'
}

const ACCOUNT_FIELDS: readonly string[] = ['email', 'username']

/** The table of DESIGN 4.1; ROUTES_FILE replaces it. First match wins. */
export const DEFAULT_ROUTES: readonly Route[] = [
  authRoute('login', 'login'),
  authRoute('forgot-password', 'login', 'attempts'),
  authRoute('verify-reset-otp', 'login'),
  authRoute('reset-password', 'login'),
  authRoute('refresh-token', 'refresh_token'),
  authRoute('verify-2fa', 'temp_token'),
  // By whatever method: what the app takes for a logout is one.
  { ...row('logout', null, '/api/auth/logout', 'access_token'), revokes: true },
  { ...row('usage', ['GET'], '/api/usage', 'access_token'), answer: 'usage' },
  row('api', null, '/api/*', 'access_token'),
]

function authRoute(name: string, credential: Credential, counts?: Route['counts']): Route {
  return row(name, ['POST'], `/api/auth/${name}`, credential, counts)
}

function row(
  name: string,
  methods: readonly string[] | null,
  path: string,
  credential: Credential,
  counts: Route['counts'] = 'failures',
): Route {
  return {
    ...{ name, methods, path, credential, revokes: false },
    ...{ account: ACCOUNT_FIELDS, counts, refusals: 'gateway', answer: 'app' },
  }
}

/** Finds the route of a canonical path, or null. */
export type Router = (method: string, path: string) => Route | null

/**
 * Exact paths are one map hit; prefixes are tried in their order after them. What is reserved between gateway and app
 * has no route, whatever `routes` say.
 */
export function makeRouter(routes: readonly Route[]): Router {
  const exact = new Map<string, Route[]>()
  const prefixes: { prefix: string; route: Route }[] = []
  for (const route of routes) {
    if (route.path.endsWith('/*')) prefixes.push({ prefix: route.path.slice(0, -1), route })
    else exact.set(route.path, [...(exact.get(route.path) ?? []), route])
  }
  const accepts = (route: Route, method: string) =>
    route.methods === null || route.methods.includes(method)
  return (method, path) => {
    if (isReservedPath(path)) return null
    for (const route of exact.get(path) ?? []) if (accepts(route, method)) return route
    for (const { prefix, route } of prefixes) {
      if (path.startsWith(prefix) && accepts(route, method)) return route
    }
    return null
  }
}

/** Not `tenant_key`, which is the tenant's. */
const fieldName = z.string().regex(/^(?!tenant_key$)[\w.-]{1,64}$/)

const routesFileSchema = z.object({
  routes: z
    .array(
      z
        .strictObject({
          name: z.string().regex(/^[a-z0-9-]{1,40}$/),
          methods: z
            .array(z.string().regex(/^[A-Z]+$/))
            .min(1)
            .nullable()
            .default(null),
          path: z.string().regex(/^\/[\w\-./]*\*?$/),
          credential: z.enum(CREDENTIALS),
          revokes: z.boolean().default(false),
          account: z
            .union([fieldName.transform(name => [name]), z.array(fieldName).min(1).max(10)])
            .default([...ACCOUNT_FIELDS]),
          counts: z.enum(['failures', 'attempts']).default('failures'),
          refusals: z.enum(['gateway', 'app']).default('gateway'),
          answer: z.enum(['app', 'usage']).default('app'),
        })
        .refine(({ revokes, credential }) => !revokes || credential === 'access_token', {
          path: ['revokes'],
          message: 'only where the credential is access_token',
        })
        .refine(({ answer, credential }) => answer === 'app' || credential === 'access_token', {
          path: ['answer'],
          message: 'app, unless the credential is access_token',
        }),
    )
    .min(1)
    .max(200),
})

/**
 * The table of a ROUTES_FILE: `{"routes": [{"name", "methods"?, "path", "credential", "revokes"?, "account"?,
 * "counts"?, "refusals"?, "answer"?}]}`; account, counts and refusals are for login routes.
 *
 * @throws Error with what is wrong and where
 */
export function parseRoutes(json: string): readonly Route[] {
  const read = routesFileSchema.safeParse(JSON.parse(json))
  if (read.success) return read.data.routes
  const problems = read.error.issues.map(issue => `${issue.path.join('.')}: ${issue.message}`)
  throw new Error(problems.join('; '))
}
