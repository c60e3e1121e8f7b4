import { PassThrough, type Readable } from 'node:stream'
import { toFault } from '../lib/errors.ts'
import type { MoveStep } from '../move/move.ts'
import type { Moved } from './move.ts'

/** What is told of a move: `step` before each begins, at the end `moved` or `failed`. */
export interface MoveEvents {
  readonly step: { readonly step: MoveStep; readonly text: string }
  readonly moved: Moved
  readonly failed: { readonly code: string; readonly message: string }
}

/** Proxies give up on a connection on which nothing is said. */
const SILENCE_MS = 10_000

/**
 * A move as a stream of events (WHATWG HTML section 9.2), for whoever waits to see how it goes. A caller that leaves
 * it calls the move off, as one that leaves its answer.
 *
 * @param run begins it
 * @throws what it fails with before its first step: that is an answer of its own
 */
export async function streamMove(
  run: (told: (step: MoveStep, text: string) => void) => Promise<Moved>,
): Promise<Readable> {
  const stream = new PassThrough()
  // Whoever leaves destroys it, which is no fault of ours.
  stream.on('error', () => {})
  const write = (text: string) => {
    if (!stream.destroyed) stream.write(text)
  }
  const say = <N extends keyof MoveEvents>(name: N, data: MoveEvents[N]) =>
    write(`event: ${name}\ndata: ${JSON.stringify(data)}\n\n`)
  const begun = Promise.withResolvers<void>()
  const silence = setInterval(() => write(': still here\n\n'), SILENCE_MS).unref()
  const work = run((step, text) => {
    say('step', { step, text })
    begun.resolve()
  })
  void work
    .then(
      moved => {
        say('moved', moved)
        begun.resolve()
      },
      error => {
        const { code, publicMessage: message } = toFault(error)
        say('failed', { code, message })
        begun.reject(error)
      },
    )
    .finally(() => {
      clearInterval(silence)
      stream.end()
    })
  await begun.promise
  return stream
}
