import { z } from 'zod'

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
}

const LOGIN_PATHS = ['login', 'forgot-password', 'verify-reset-otp', 'reset-password'] as const

/** The table of DESIGN 4.1; ROUTES_FILE replaces it. First match wins. */
export const DEFAULT_ROUTES: readonly Route[] = [
  ...LOGIN_PATHS.map(name => post(name, `/api/auth/${name}`, 'login')),
  post('refresh-token', '/api/auth/refresh-token', 'refresh_token'),
  post('verify-2fa', '/api/auth/verify-2fa', 'temp_token'),
  // By whatever method: what the app takes for a logout is one.
  {
    name: 'logout',
    methods: null,
    path: '/api/auth/logout',
    credential: 'access_token',
    revokes: true,
  },
  { name: 'api', methods: null, path: '/api/*', credential: 'access_token', revokes: false },
]

function post(name: string, path: string, credential: Credential): Route {
  return { name, methods: ['POST'], path, credential, revokes: false }
}

/** Finds the route of a canonical path, or null. */
export type Router = (method: string, path: string) => Route | null

/** Exact paths are one map hit; prefixes are tried in their order after them. */
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
    for (const route of exact.get(path) ?? []) if (accepts(route, method)) return route
    for (const { prefix, route } of prefixes) {
      if (path.startsWith(prefix) && accepts(route, method)) return route
    }
    return null
  }
}

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
        })
        .refine(({ revokes, credential }) => !revokes || credential === 'access_token', {
          path: ['revokes'],
          message: 'only where the credential is access_token',
        }),
    )
    .min(1)
    .max(200),
})

/**
 * The table of a ROUTES_FILE: `{"routes": [{"name", "methods"?, "path", "credential", "revokes"?}]}`.
 *
 * @throws Error with what is wrong and where
 */
export function parseRoutes(json: string): readonly Route[] {
  const read = routesFileSchema.safeParse(JSON.parse(json))
  if (read.success) return read.data.routes
  const problems = read.error.issues.map(issue => `${issue.path.join('.')}: ${issue.message}`)
  throw new Error(problems.join('; '))
}
