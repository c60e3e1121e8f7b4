import { connect, type Socket } from 'node:net'
import type { Idle } from './idle.ts'
import type { Job } from './job.ts'
import { makeSources } from './sources.ts'
import { Tally } from './tally.ts'

/** How often each slow client sends a byte: never silent for long, never done. */
const DRIP_MS = 1000
/**
 * How often it is looked who is due. Each client has an instant of its own within DRIP_MS: thousands of machines do not
 * send at the same one, and 2,000 writes in a row hold this process's core for 20 to 30 ms.
 */
const LOOK_MS = 5

/**
 * Opens connections that never become a request: a third says nothing, the others drip a head that never ends.
 * Those that are cut come back, as an attacker's would. In a process of its own, for what it costs is not to be measured.
 */
export async function prepareFlood({ port, flood: count }: Job): Promise<Idle> {
  const nextSource = makeSources()
  const sockets: Socket[] = []
  let isOver = false
  const open = (at: number) =>
    new Promise<void>(resolve => {
      const source = nextSource()
      const socket = connect({ port, host: '127.0.0.1', ...(source && { localAddress: source }) })
      sockets[at] = socket
      socket.on('connect', () => resolve())
      socket.on('error', () => {}).resume()
      socket.on('close', () => {
        resolve()
        if (!isOver) setTimeout(open, DRIP_MS, at).unref()
      })
      if (!isSilent(at)) socket.write('GET /api/small HTTP/1.1\r\nx-slow: ')
    })
  await Promise.all(Array.from({ length: count }, (_, at) => open(at)))

  const startedAt = performance.now()
  let done = 0
  const timer = setInterval(() => {
    const due = Math.floor(((performance.now() - startedAt) / DRIP_MS) * count)
    for (; done < due; done++) {
      const at = done % count
      const socket = sockets[at]
      if (!isSilent(at) && socket?.writable === true) socket.write('x')
    }
  }, LOOK_MS)
  const tally = new Tally()
  return {
    async run() {
      tally.start()
      return tally.result()
    },
    release() {
      isOver = true
      clearInterval(timer)
      for (const socket of sockets) socket.destroy()
    },
  }
}

function isSilent(at: number): boolean {
  return at % 3 === 0
}
