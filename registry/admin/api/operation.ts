import type { z } from 'zod'
import type { GatewayQuestions } from '../../live/questions.ts'
import type { TenantId } from '../../tenant.ts'
import type { Actor, Scope } from '../actor.ts'
import type { Expected } from '../change.ts'
import type { AdminDeps } from '../deps.ts'

/** One call of the API as its handler sees it: all that a client sent is parsed. */
export interface Call<Query, Body> {
  readonly deps: AdminDeps
  readonly actor: Actor
  /** Asks the gateways how things are now. */
  readonly gateways: GatewayQuestions
  /** Of the path. */
  readonly id: TenantId
  readonly query: Query
  readonly body: Body
  /** Of If-Match. */
  readonly expected: Expected
}

/** What a handler answers, to be put into the envelope. */
export interface Outcome {
  readonly message: string
  readonly result: unknown
}

/** One operation: a route and its line in the OpenAPI document, so that the two cannot differ. */
export interface Operation {
  /** Its name in the document and in the log. */
  readonly name: string
  readonly method: 'GET' | 'POST' | 'PATCH' | 'DELETE'
  /** Below /api/admin. */
  readonly path: string
  readonly summary: string
  /** What a key needs. */
  readonly scope: Scope
  readonly query: z.ZodType | null
  readonly body: z.ZodType | null
  readonly result: z.ZodType
  /** Of success. */
  readonly status: 200 | 201
  /** One tenant is answered: ETag says its version, and If-Match is heeded by what changes it. */
  readonly isVersioned: boolean
  run(call: Call<unknown, unknown>): Promise<Outcome>
}

interface Given<Q extends z.ZodType, B extends z.ZodType> {
  readonly name: string
  readonly method: Operation['method']
  readonly path: string
  readonly summary: string
  readonly scope: Scope
  readonly query?: Q
  readonly body?: B
  readonly result: z.ZodType
  readonly status?: 201
  readonly isVersioned?: boolean
  run(call: Call<z.output<Q>, z.output<B>>): Promise<Outcome>
}

/** Types the handler by its schemas. */
export function operation<Q extends z.ZodType, B extends z.ZodType>(given: Given<Q, B>): Operation {
  return {
    query: null,
    body: null,
    status: 200,
    isVersioned: false,
    ...given,
    // The server hands over what these very schemas made.
    run: call => given.run(call as Call<z.output<Q>, z.output<B>>),
  }
}
