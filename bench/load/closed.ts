import { Connection } from './connection.ts'
import type { Job, LoadResult } from './job.ts'
import type { Requests } from './requests.ts'
import { Tally } from './tally.ts'

/** A load that is ready to run: its connections are open. */
export interface Prepared {
  run(): Promise<LoadResult>
}

/** Each connection sends its next request when the answer to the last one is complete. */
export async function prepareClosed(job: Job, requests: Requests): Promise<Prepared> {
  const tally = new Tally()
  const open = new Set<Connection>()
  let endsAt = 0
  let lanes = 0
  let finish = () => {}

  const openOne = () =>
    new Promise<Connection>((resolve, reject) => {
      let isOpen = false
      const connection: Connection = new Connection(
        job.port,
        '',
        {
          onAnswer(answered, status) {
            if (status === 200) tally.ok(answered.startedAt)
            else tally.error(`status ${status}`)
            if (!answered.isLast) return next(answered)
            answered.close()
            replace(answered)
          },
          onEnd(ended, message) {
            if (!isOpen) return reject(new Error(message ?? 'closed at once'))
            if (message !== null) tally.error(message)
            replace(ended)
          },
        },
        () => {
          isOpen = true
          open.add(connection)
          resolve(connection)
        },
      )
    })

  const next = (connection: Connection) => {
    const now = performance.now()
    if (now < endsAt) {
      connection.send(requests.next(), now)
      return
    }
    connection.close()
    open.delete(connection)
    endLane()
  }

  const replace = (connection: Connection) => {
    open.delete(connection)
    if (endsAt === 0) return // the clock has not started
    if (performance.now() >= endsAt) return endLane()
    openOne().then(next, (error: Error) => {
      tally.error(error.message)
      endLane()
    })
  }

  const endLane = () => {
    if (--lanes === 0) finish()
  }

  await Promise.all(Array.from({ length: job.connections }, openOne))
  return {
    run() {
      if (open.size === 0) throw new Error('all connections were closed before the start')
      return new Promise(resolve => {
        finish = () => resolve(tally.result())
        lanes = open.size
        endsAt = performance.now() + job.seconds * 1000
        tally.start()
        for (const connection of [...open]) next(connection)
      })
    },
  }
}
