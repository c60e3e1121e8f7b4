import type { Prepared } from './closed.ts'
import { Connection } from './connection.ts'
import type { Job } from './job.ts'
import type { Requests } from './requests.ts'
import { makeSources } from './sources.ts'
import { Tally } from './tally.ts'

/** A new connection for each request; latency includes its handshake. */
export async function prepareChurn(job: Job, requests: Requests): Promise<Prepared> {
  const tally = new Tally()
  const nextSource = makeSources()
  return {
    run() {
      return new Promise(resolve => {
        const endsAt = performance.now() + job.seconds * 1000
        let lanes = job.connections
        tally.start()

        const next = () => {
          if (performance.now() >= endsAt) {
            if (--lanes === 0) resolve(tally.result())
            return
          }
          const startedAt = performance.now()
          const connection: Connection = new Connection(
            job.port,
            nextSource(),
            {
              onAnswer(answered, status) {
                if (status === 200) tally.ok(answered.startedAt)
                else tally.error(`status ${status}`)
                answered.close()
                next()
              },
              onEnd(_, message) {
                tally.error(message ?? 'closed without an answer')
                next()
              },
            },
            () => connection.send(requests.next(), startedAt),
          )
        }
        for (let lane = job.connections; lane > 0; lane--) next()
      })
    },
  }
}
