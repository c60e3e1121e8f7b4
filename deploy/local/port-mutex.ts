import { once } from 'node:events'
import { connect, createServer, type Server } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'

export const MUTEX_PORT = 19_090

const BANNER = 'doorman'
const WAIT_MS = 60_000
const POLL_MS = 100
const PROBE_MS = 1_000

/**
 * Runs `work` while no other copy of Doorman on this machine runs its own. Between choosing a free
 * port and listening on it another copy could choose the same; worse, its answers would then be
 * taken for ours. The mutex is a TCP port: whoever listens has it, and the system gives it back
 * whatever happens to the holder. Where a stranger listens there, `work` runs without the mutex.
 */
export async function exclusively<T>(
  signal: AbortSignal,
  work: () => Promise<T>,
  port = MUTEX_PORT,
): Promise<T> {
  const server = await acquire(signal, port)
  try {
    return await work()
  } finally {
    server?.close()
  }
}

async function acquire(signal: AbortSignal, port: number): Promise<Server | null> {
  const deadline = Date.now() + WAIT_MS
  while (Date.now() < deadline) {
    signal.throwIfAborted()
    const server = createServer(socket => {
      socket.on('error', () => {})
      socket.end(BANNER)
    })
    try {
      server.listen({ port, host: '127.0.0.1', exclusive: true })
      await once(server, 'listening')
      return server
    } catch {
      if (!(await isHeldByDoorman(port))) return null
      await delay(POLL_MS)
    }
  }
  return null
}

/** True also where the holder has just gone. */
function isHeldByDoorman(port: number): Promise<boolean> {
  return new Promise(resolve => {
    const socket = connect(port, '127.0.0.1')
    socket.setTimeout(PROBE_MS, () => socket.destroy())
    let text = ''
    socket.on('data', chunk => {
      text += chunk
      if (text.length > BANNER.length) socket.destroy()
    })
    socket.on('error', (error: NodeJS.ErrnoException) => {
      resolve(error.code === 'ECONNREFUSED' || error.code === 'ECONNRESET')
    })
    socket.on('close', () => resolve(text === BANNER))
  })
}
