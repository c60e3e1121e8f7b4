import { isIP, type Socket, connect as tcpConnect } from 'node:net'
import { type ConnectionOptions, connect as tlsConnect } from 'node:tls'

/** PostgreSQL manual, "Message Formats": CancelRequest and SSLRequest stand in place of a version. */
const CANCEL_CODE = 80877102
const SSL_CODE = 80877103

/** TCP, TLS and the server's close together. */
const CANCEL_MS = 1000

/** The session whose statement is to end. */
export interface CancelTarget {
  /** The address that the session is really connected to: a name may lead elsewhere by now. */
  readonly address: string
  readonly port: number
  /** The name by which a certificate is checked. */
  readonly host: string
  readonly ssl: false | ConnectionOptions
  readonly processId: number
  readonly secret: number
}

/** The cancel requests of a replica, so many at a time. */
export class Cancels {
  readonly #max: number
  #running = 0

  constructor(max: number) {
    this.#max = max
  }

  /** As `sendCancel`; false at once where too many are under way. */
  async send(target: CancelTarget): Promise<boolean> {
    if (this.#running >= this.#max) return false
    this.#running += 1
    try {
      return await sendCancel(target, CANCEL_MS)
    } finally {
      this.#running -= 1
    }
  }
}

/**
 * Asks the server to cancel what a session runs, over a connection of its own, as the protocol has it.
 *
 * The server signals the session and closes this connection only afterwards. So where this resolves
 * to true the signal has been sent, and whatever is sent to the session from then on comes behind it: a
 * cancel that finds nothing to cancel is ignored there. False: nobody knows, and it may yet come.
 */
export function sendCancel(target: CancelTarget, ms: number): Promise<boolean> {
  return new Promise(resolve => {
    const raw = tcpConnect({ host: target.address, port: target.port, noDelay: true })
    let socket: Socket = raw
    let isSent = false
    let isFailed = false
    const fail = () => {
      isFailed = true
      raw.destroy()
      socket.destroy()
    }
    const timer = setTimeout(fail, ms)
    raw.once('close', () => {
      clearTimeout(timer)
      socket.destroy()
      resolve(isSent && !isFailed)
    })
    raw.on('error', fail)

    const cancel = () => {
      isSent = true
      socket.resume()
      socket.write(cancelRequest(target))
    }
    raw.once('connect', () => {
      if (target.ssl === false) cancel()
      else raw.write(int32s(8, SSL_CODE))
    })
    if (target.ssl === false) return
    const { ssl } = target
    raw.once('data', answer => {
      // A byte behind the answer would be one that somebody put before the encryption (CVE-2021-23222).
      if (answer.length !== 1 || answer[0] !== 0x53 /* S */) {
        fail()
        return
      }
      const name = isIP(target.host) === 0 ? { servername: target.host } : {}
      socket = tlsConnect({ ...ssl, ...name, host: target.host, socket: raw })
      socket.on('error', fail)
      socket.once('secureConnect', cancel)
      socket.once('end', () => raw.destroy())
    })
  })
}

function cancelRequest({ processId, secret }: CancelTarget): Buffer {
  return int32s(16, CANCEL_CODE, processId, secret)
}

function int32s(...values: number[]): Buffer {
  const bytes = Buffer.alloc(values.length * 4)
  values.forEach((value, i) => {
    bytes.writeInt32BE(value | 0, i * 4)
  })
  return bytes
}
