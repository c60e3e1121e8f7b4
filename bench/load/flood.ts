import { connect, type Socket } from 'node:net'
import { makeSources } from './sources.ts'

/** How often each slow client sends a byte: never silent for long, never done. */
const DRIP_MS = 1000

/**
 * Opens `count` connections that never become a request: a third says nothing, the others drip a head
 * that never ends. Those that are cut come back, as an attacker's would.
 *
 * @returns once all are open: what ends it
 */
export async function startFlood(port: number, count: number): Promise<() => void> {
  const nextSource = makeSources()
  const dripping = new Set<Socket>()
  const all = new Set<Socket>()
  let isOver = false
  const open = (isSilent: boolean) => {
    const source = nextSource()
    const socket = connect({ port, host: '127.0.0.1', ...(source && { localAddress: source }) })
    all.add(socket)
    socket.on('error', () => {}).resume()
    socket.on('close', () => {
      all.delete(socket)
      dripping.delete(socket)
      if (!isOver) setTimeout(open, DRIP_MS, isSilent).unref()
    })
    if (isSilent) return socket
    socket.write('GET /api/small HTTP/1.1\r\nx-slow: ')
    dripping.add(socket)
    return socket
  }
  const opened = Array.from({ length: count }, (_, i) => {
    const socket = open(i % 3 === 0)
    return new Promise(resolve => socket.on('connect', resolve).on('close', resolve))
  })
  await Promise.all(opened)
  const timer = setInterval(() => {
    for (const socket of dripping) socket.write('x')
  }, DRIP_MS)
  return () => {
    isOver = true
    clearInterval(timer)
    for (const socket of all) socket.destroy()
  }
}
