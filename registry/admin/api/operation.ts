import type { Readable } from 'node:stream'
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
  /** Of the path: of a plan. */
  readonly code: string
  readonly query: Query
  readonly body: Body
  /** Of If-Match. */
  readonly expected: Expected
  /** Of Idempotency-Key. */
  readonly idempotencyKey: string | null
  /** Of the path, where it has :name. */
  readonly name: string
  /** Of Last-Event-ID, as it came. */
  readonly lastEventId: string | null
  /** Aborted when the answer has ended, or its client has left. */
  readonly gone: AbortSignal
}

/** What a handler answers, to be put into the envelope. */
export interface Outcome {
  readonly message: string
  readonly result: unknown
  /** Where it is not that of the operation. */
  readonly status?: Operation['status']
  /** Of what was made, where it is not a tenant; below /api/admin. */
  readonly location?: string
}

/** Server-sent events in place of an envelope; null: there are no more (204, at which a client does not come again). */
export interface StreamOutcome {
  readonly events: Readable | null
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
  /** Which one of several schemas a body is read by, so that a refusal speaks of its fields. */
  readonly bodyFor?: (given: unknown) => z.ZodType
  readonly result: z.ZodType
  /** Of success. */
  readonly status: 200 | 201 | 202
  /** With status 202, where some requests go on after their answer. */
  readonly accepted?: z.ZodType
  /** Its answer is a stream of events, `result` what each tells. */
  readonly isStream: boolean
  /** One tenant, plan or price list is answered: ETag says its version, and If-Match is heeded by what changes it. */
  readonly isVersioned: boolean
  run(call: Call<unknown, unknown>): Promise<Outcome | StreamOutcome>
}

interface Given<Q extends z.ZodType, B extends z.ZodType> {
  readonly name: string
  readonly method: Operation['method']
  readonly path: string
  readonly summary: string
  readonly scope: Scope
  readonly query?: Q
  readonly body?: B
  readonly bodyFor?: (given: unknown) => z.ZodType
  readonly result: z.ZodType
  readonly status?: 201 | 202
  readonly accepted?: z.ZodType
  readonly isStream?: boolean
  readonly isVersioned?: boolean
  run(call: Call<z.output<Q>, z.output<B>>): Promise<Outcome | StreamOutcome>
}

/** Types the handler by its schemas. */
export function operation<Q extends z.ZodType, B extends z.ZodType>(given: Given<Q, B>): Operation {
  return {
    query: null,
    body: null,
    status: 200,
    isStream: false,
    isVersioned: false,
    ...given,
    // The server hands over what these very schemas made.
    run: call => given.run(call as Call<z.output<Q>, z.output<B>>),
  }
}
