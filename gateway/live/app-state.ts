import { randomUUID } from 'node:crypto'
import {
  CONTEXT_HEADER,
  type MintedContext,
  NO_PRINCIPAL,
  REQUEST_HEADER,
  signRequest,
} from '../../registry/context.ts'
import { STATE_PATH } from '../../registry/lib/reserved-path.ts'
import { type AppAnswer, type AppState, appState } from '../../registry/live/answers.ts'
import type { UpstreamCall, UpstreamClient } from '../upstream/client.ts'

/** Within the time that a question leaves for its answer (1 s), with some for the way of it. */
export const APP_ANSWER_MS = 700
const ANSWER_BYTES_MAX = 16 * 1024

/**
 * What a replica holds of the tenant that `context` names: it is asked by a request with that tenant's own signed
 * context, so that it can answer for no other. Never rejects.
 */
export function askApp(
  client: UpstreamClient,
  origin: string,
  context: MintedContext,
): Promise<AppAnswer> {
  return new Promise(resolve => {
    const chunks: Buffer[] = []
    let bytes = 0
    let status = 0
    let call: UpstreamCall | null = null
    const end = (problem: string | null, state: AppState | null = null) => {
      clearTimeout(timer)
      resolve({ origin, problem, state })
    }
    const stop = (problem: string) => {
      call?.abort()
      end(problem)
    }
    const timer = setTimeout(() => stop('no answer in time'), APP_ANSWER_MS)
    call = client.send(
      origin,
      { method: 'GET', target: STATE_PATH, headers: headersFor(context), body: null },
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
          const state = readState(Buffer.concat(chunks))
          end(state === null ? 'the answer cannot be read' : null, state)
        },
        onFault: ({ kind }) => end(`the app could not be asked: ${kind}`),
      },
    )
  })
}

function headersFor(context: MintedContext): string[] {
  const requestId = randomUUID()
  const tag = signRequest(context.mac, 'GET', STATE_PATH, NO_PRINCIPAL, requestId, Date.now())
  return [
    ...['user-agent', 'doorman-state', 'accept', 'application/json', 'x-request-id', requestId],
    ...[CONTEXT_HEADER, context.token, REQUEST_HEADER, tag],
  ]
}

function readState(body: Buffer): AppState | null {
  try {
    const { result } = JSON.parse(body.toString()) as { result?: unknown }
    const read = appState.safeParse(result)
    return read.success ? read.data : null
  } catch {
    return null
  }
}
