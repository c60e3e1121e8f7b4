import { connect, type Socket } from 'node:net'
import type { Prepared } from './closed.ts'
import type { Job } from './job.ts'
import { Tally } from './tally.ts'

const PAYLOAD_BYTES = 100
const MESSAGE = maskedFrame(Buffer.alloc(PAYLOAD_BYTES, 'x'))
/** Two bytes of header and no mask: what a server sends (RFC 6455 section 5.2). */
const ECHO_BYTES = 2 + PAYLOAD_BYTES
const OPEN_DEADLINE_MS = 10_000

/** Each connection sends a text message of 100 bytes, waits for its echo, and sends the next. */
export async function prepareWebSocket(job: Job, nextHandshake: () => Buffer): Promise<Prepared> {
  const tally = new Tally()
  const lanes = await Promise.all(
    Array.from({ length: job.connections }, () => openLane(job.port, nextHandshake())),
  )
  return {
    async run() {
      tally.start()
      const endsAt = performance.now() + job.seconds * 1000
      await Promise.all(lanes.map(socket => echoUntil(socket, endsAt, tally)))
      return tally.result()
    },
  }
}

function openLane(port: number, handshake: Buffer): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = connect({ host: '127.0.0.1', port, noDelay: true })
    let head = ''
    const fail = (error: Error) => {
      socket.destroy()
      reject(error)
    }
    socket.setTimeout(OPEN_DEADLINE_MS, () => fail(new Error('no answer to the upgrade')))
    socket.once('error', fail)
    socket.once('close', () => reject(new Error('closed before the upgrade')))
    socket.on('data', function read(chunk) {
      head += chunk.toString('latin1')
      if (!head.includes('\r\n\r\n')) return
      socket.off('data', read)
      socket.off('error', fail)
      socket.on('error', () => {}) // 'close' follows, and tells
      socket.setTimeout(0)
      if (head.startsWith('HTTP/1.1 101 ') && head.endsWith('\r\n\r\n')) resolve(socket)
      else fail(new Error(`no upgrade: ${head.slice(0, 80)}`))
    })
    socket.write(handshake)
  })
}

function echoUntil(socket: Socket, endsAt: number, tally: Tally): Promise<void> {
  return new Promise(resolve => {
    let startedAt = 0
    let received = 0
    const send = () => {
      startedAt = performance.now()
      if (startedAt < endsAt) socket.write(MESSAGE)
      else socket.destroy()
    }
    socket.on('data', chunk => {
      if (
        received === 0 &&
        (chunk[0] !== 0x81 || (chunk.length > 1 && chunk[1] !== PAYLOAD_BYTES))
      ) {
        tally.error('not the echo of the message')
        socket.destroy()
        return
      }
      received += chunk.length
      if (received < ECHO_BYTES) return
      received = 0
      tally.ok(startedAt)
      send()
    })
    socket.on('error', error => tally.error(error.message))
    socket.on('close', () => {
      if (performance.now() < endsAt) tally.error('closed during the run')
      resolve()
    })
    send()
  })
}

function maskedFrame(payload: Buffer): Buffer {
  const mask = Buffer.from([0x12, 0x34, 0x56, 0x78])
  const masked = payload.map((byte, i) => byte ^ (mask[i % 4] as number))
  return Buffer.concat([Buffer.from([0x81, 0x80 | payload.length]), mask, masked])
}
