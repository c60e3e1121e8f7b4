import { once } from 'node:events'
import { connect, type Socket } from 'node:net'

const ANSWER_MS = 15_000

/** What came over the wire, and how long it took from the last byte out to the last byte in. */
export interface RawAnswer {
  readonly text: string
  readonly ms: number
}

/** One kept connection for one request after the other, seen byte by byte. */
export class KeptConnection {
  readonly #socket: Socket

  constructor(socket: Socket) {
    this.#socket = socket
  }

  static async open(port: number): Promise<KeptConnection> {
    const socket = connect(port, '127.0.0.1')
    socket.setNoDelay(true)
    // An error closes it, and the close is what a request hears.
    socket.on('error', () => {})
    await once(socket, 'connect')
    return new KeptConnection(socket)
  }

  /** @throws Error where no whole answer came */
  post(path: string, body: string, type = 'application/json'): Promise<RawAnswer> {
    const bytes =
      `POST ${path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: ${type}\r\n` +
      `Content-Length: ${Buffer.byteLength(body)}\r\n\r\n${body}`
    return new Promise((resolve, reject) => {
      let text = ''
      const settle = (act: () => void) => {
        clearTimeout(timer)
        this.#socket.off('data', onData).off('close', onClose)
        act()
      }
      const onClose = () => settle(() => reject(new Error(`cut after ${text}`)))
      const timer = setTimeout(onClose, ANSWER_MS)
      const onData = (chunk: Buffer) => {
        text += chunk.toString('latin1')
        if (!isWhole(text)) return
        const ms = performance.now() - startedAt
        settle(() => resolve({ text, ms }))
      }
      this.#socket.on('data', onData).on('close', onClose)
      const startedAt = performance.now()
      this.#socket.write(bytes)
    })
  }

  close(): void {
    this.#socket.destroy()
  }
}

function isWhole(text: string): boolean {
  const end = text.indexOf('\r\n\r\n')
  if (end === -1) return false
  const length = /^content-length: (\d+)\r$/im.exec(text.slice(0, end + 2))?.[1]
  return length !== undefined && text.length === end + 4 + Number(length)
}
