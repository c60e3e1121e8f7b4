import type { Prepared } from './closed.ts'
import { Connection } from './connection.ts'
import type { Job } from './job.ts'
import type { Requests } from './requests.ts'
import { makeSources } from './sources.ts'
import { Tally } from './tally.ts'

const OPENING_AT_ONCE = 64

/** Connections that had one answer each and stay open, silent, until `release`. */
export interface Idle extends Prepared {
  release(): void
}

export async function prepareIdle(job: Job, requests: Requests): Promise<Idle> {
  const tally = new Tally()
  const nextSource = makeSources()
  const held = new Set<Connection>()

  const openOne = () =>
    new Promise<void>(resolve => {
      const connection: Connection = new Connection(
        job.port,
        nextSource(),
        {
          onAnswer(answered, status) {
            if (status === 200) tally.ok(answered.startedAt)
            else tally.error(`status ${status}`)
            resolve()
          },
          onEnd(ended, message) {
            held.delete(ended)
            tally.error(message ?? 'an idle connection was closed')
            resolve()
          },
        },
        () => {
          held.add(connection)
          connection.send(requests.next(), performance.now())
        },
      )
    })

  return {
    async run() {
      tally.start()
      let left = job.connections
      const lane = async () => {
        while (left-- > 0) await openOne()
      }
      await Promise.all(Array.from({ length: OPENING_AT_ONCE }, lane))
      return tally.result()
    },
    release() {
      for (const connection of held) connection.close()
      held.clear()
    },
  }
}
