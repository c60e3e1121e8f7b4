import { randomUUID } from 'node:crypto'
import type { z } from 'zod'
import {
  CONTEXT_HEADER,
  type MintedContext,
  NO_PRINCIPAL,
  REQUEST_HEADER,
  signRequest,
} from '../../registry/context.ts'
import { REPLICA_PATH, STATE_PATH } from '../../registry/lib/reserved-path.ts'
import { appState, replicaState } from '../../registry/live/answers.ts'
import type { UpstreamCall, UpstreamClient } from '../upstream/client.ts'

/** Half of what a question leaves for its answer (1 s): a replica that hangs must not make its gateway look so. */
export const APP_ANSWER_MS = 500
const ANSWER_BYTES_MAX = 16 * 1024

/** What can be asked, by path, and how the answer is read. */
const QUESTIONS = {
  tenant: { path: STATE_PATH, schema: appState },
  replica: { path: REPLICA_PATH, schema: replicaState },
} as const
type Kind = keyof typeof QUESTIONS

export interface AppSaid<T> {
  /** Why there is no state, in words. */
  readonly problem: string | null
  readonly state: T | null
}

/**
 * What a replica holds of the tenant that `context` names, or tells of itself: it is asked by a request with that
 * tenant's own signed context, so that it can tell of no other tenant. Never rejects.
 */
export function askApp<K extends Kind>(
  client: UpstreamClient,
  origin: string,
  kind: K,
  context: MintedContext,
): Promise<AppSaid<z.infer<(typeof QUESTIONS)[K]['schema']>>> {
  const { path, schema } = QUESTIONS[kind]
  return send(client, origin, path, schema as z.ZodType, context) as ReturnType<typeof askApp<K>>
}

function send<T>(
  client: UpstreamClient,
  origin: string,
  path: string,
  schema: z.ZodType<T>,
  context: MintedContext,
): Promise<AppSaid<T>> {
  return new Promise(resolve => {
    const chunks: Buffer[] = []
    let bytes = 0
    let status = 0
    let call: UpstreamCall | null = null
    const end = (problem: string | null, state: T | null = null) => {
      clearTimeout(timer)
      resolve({ problem, state })
    }
    const stop = (problem: string) => {
      call?.abort()
      end(problem)
    }
    const timer = setTimeout(() => stop('no answer in time'), APP_ANSWER_MS)
    call = client.send(
      origin,
      { method: 'GET', target: path, headers: headersFor(path, context), body: null },
      {
        onHead(answered) {
          status = answered
        },
        onBytes(chunk) {
          bytes += chunk.length
          if (bytes > ANSWER_BYTES_MAX) stop('the answer is too long')
          else chunks.push(Buffer.from(chunk))
        },
        onEnd() {
          if (status !== 200) return end(`the app answers ${status}`)
          const state = readState(Buffer.concat(chunks), schema)
          end(state === null ? 'the answer cannot be read' : null, state)
        },
        onFault: ({ kind }) => end(`the app could not be asked: ${kind}`),
      },
    )
  })
}

function headersFor(path: string, context: MintedContext): string[] {
  const requestId = randomUUID()
  const tag = signRequest(context.mac, 'GET', path, NO_PRINCIPAL, requestId, Date.now())
  return [
    ...['user-agent', 'doorman-state', 'accept', 'application/json', 'x-request-id', requestId],
    ...[CONTEXT_HEADER, context.token, REQUEST_HEADER, tag],
  ]
}

function readState<T>(body: Buffer, schema: z.ZodType<T>): T | null {
  try {
    const { result } = JSON.parse(body.toString()) as { result?: unknown }
    const read = schema.safeParse(result)
    return read.success ? read.data : null
  } catch {
    return null
  }
}
