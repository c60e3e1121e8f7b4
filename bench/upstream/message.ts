export interface Message {
  /** Request line and fields, without the empty line. */
  readonly head: string
  readonly path: string
  readonly isUpgrade: boolean
}

/**
 * Splits what a connection brings into requests and drops their bodies. For the bench's own proxies,
 * which frame correctly; it refuses what it does not know, rather than guess.
 */
export class MessageReader {
  #text = ''
  #bodyLeft = 0
  #pending: Message | null = null

  push(chunk: Buffer): Message[] {
    const done: Message[] = []
    let from = 0
    while (from < chunk.length) {
      if (this.#bodyLeft > 0) {
        const taken = Math.min(this.#bodyLeft, chunk.length - from)
        this.#bodyLeft -= taken
        from += taken
      } else {
        this.#text += chunk.toString('latin1', from)
        from = chunk.length
        this.#readHeads(done)
      }
      if (this.#bodyLeft === 0 && this.#pending !== null) {
        done.push(this.#pending)
        this.#pending = null
      }
    }
    return done
  }

  #readHeads(done: Message[]): void {
    for (;;) {
      const end = this.#text.indexOf('\r\n\r\n')
      if (end === -1) return
      const head = this.#text.slice(0, end)
      const rest = this.#text.slice(end + 4)
      const message = parseHead(head)
      const body = measureBody(head, rest)
      if (body === null) return // a chunked body of which more must come
      this.#text = ''
      if (body > rest.length) {
        this.#pending = message
        this.#bodyLeft = body - rest.length
        return
      }
      done.push(message)
      this.#text = rest.slice(body)
    }
  }
}

function parseHead(head: string): Message {
  const pathAt = head.indexOf(' ') + 1
  return {
    head,
    path: head.slice(pathAt, head.indexOf(' ', pathAt)),
    isUpgrade: /\r\nupgrade: *websocket/i.test(head),
  }
}

/** Bytes of the body on the wire; null: chunked and not all there. */
function measureBody(head: string, rest: string): number | null {
  if (head.startsWith('GET ')) return 0
  const length = /\r\ncontent-length: *(\d+)/i.exec(head)?.[1]
  if (length !== undefined) return Number(length)
  if (!/\r\ntransfer-encoding: *chunked/i.test(head)) return 0
  let at = 0
  for (;;) {
    const lineEnd = rest.indexOf('\r\n', at)
    if (lineEnd === -1) return null
    const size = Number.parseInt(rest.slice(at, lineEnd), 16)
    if (Number.isNaN(size)) throw new Error('not a chunk size')
    at = lineEnd + 2 + size + 2
    if (at > rest.length) return null
    if (size === 0) return at
  }
}
