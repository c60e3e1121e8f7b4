import { once } from 'node:events'
import { type AddressInfo, createServer, type Server, type Socket } from 'node:net'
import { dechunk, Inbox, RawClient } from '../../../gateway/http1/test-kit.ts'
import { get } from './message.ts'
import type { Outcome, Probe, Rule } from './verdict.ts'

/** A request as it came over the wire to the app. */
export interface Reached {
  readonly method: string
  readonly target: string
  /** Lower-case name and value, in their order. */
  readonly fields: readonly (readonly [string, string])[]
  body: string
  /** Its body came in full. */
  isWhole: boolean
}

const LINE = /^([A-Z]+) (\/[\x21-\x7e]*) HTTP\/1\.1$/
const FIELD = /^([!#$%&'*+\-.^_`|~0-9A-Za-z]+): ([^\r\n\0]*)$/

/** An app that reads what it gets to the letter, keeps it, and echoes bodies. */
export class RecordingApp {
  readonly reached: Reached[] = []
  /** What is no request of our own grammar, or framed in more than one way. */
  readonly strays: string[] = []
  readonly #sockets = new Set<Socket>()
  readonly #server: Server = createServer(socket => {
    this.#sockets.add(socket)
    socket.on('error', () => {})
    socket.on('close', () => this.#sockets.delete(socket))
    this.#serve(socket).catch(error => this.strays.push(String(error)))
  })

  async listen(): Promise<string> {
    this.#server.listen(0, '127.0.0.1')
    await once(this.#server, 'listening')
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`
  }

  close(): void {
    this.#server.close()
    for (const socket of this.#sockets) socket.destroy()
  }

  async #serve(socket: Socket): Promise<void> {
    const inbox = new Inbox(socket)
    for (;;) {
      const head = await inbox.takeHead()
      if (head === null) return
      const request = this.#read(head)
      if (request === null) {
        this.strays.push(head.slice(0, 300))
        return void socket.destroy()
      }
      this.reached.push(request)
      const body = await inbox.takeBody(new Map(request.fields))
      if (body === null) return
      request.body = body.toString('latin1')
      request.isWhole = true
      socket.write(answerTo(request), 'latin1')
    }
  }

  #read(head: string): Reached | null {
    const [first = '', ...lines] = head.split('\r\n')
    const line = LINE.exec(first)
    if (line === null) return null
    const fields: [string, string][] = []
    for (const text of lines) {
      const field = FIELD.exec(text)
      if (field === null) return null
      fields.push([(field[1] as string).toLowerCase(), field[2] as string])
    }
    const framing = fields.filter(([name]) => /^(content-length|transfer-encoding)$/.test(name))
    if (framing.length > 1 || fields.filter(([name]) => name === 'host').length !== 1) return null
    return {
      method: line[1] as string,
      target: line[2] as string,
      fields,
      body: '',
      isWhole: false,
    }
  }
}

function answerTo({ method, fields, body }: Reached): string {
  const nonce = fields.find(([name]) => name === 'x-nonce')?.[1] ?? ''
  const seen = `x-seen: ${fields.map(([name]) => name).join(' ')}\r\nx-nonce: ${nonce}\r\n`
  if (method === 'OPTIONS') return `HTTP/1.1 204 No Content\r\nallow: GET, POST\r\n${seen}\r\n`
  const content = method === 'POST' ? body : 'OK'
  const type = 'content-type: text/plain\r\n'
  const length = `content-length: ${content.length}\r\n`
  if (method === 'DELETE') {
    return `HTTP/1.1 405 Method Not Allowed\r\nallow: GET, POST\r\n${seen}${type}${length}\r\n${content}`
  }
  return `HTTP/1.1 200 OK\r\n${seen}${type}${length}\r\n${method === 'HEAD' ? '' : content}`
}

/** What a probe's placeholders become. */
export interface Places {
  readonly target: string
  readonly token: string
}

export function bytesOf(send: string, { target, token }: Places): string {
  const fill = (text: string) =>
    text
      .replaceAll('$T', target)
      .replaceAll('$H', `Host: probe.example\r\nAuthorization: Bearer ${token}`)
      .replaceAll('$A', `Authorization: Bearer ${token}`)
  const inner = fill(get())
  const filled = fill(send).replaceAll('$X', inner.length.toString(16))
  const body = filled.length - filled.indexOf('\r\n\r\n') - 4
  return filled.replaceAll('$L', String(body))
}

/** Where silence may be right it is waited for so long; Http11Probe waits 5 s, and our time-outs are longer. */
const SILENCE_MS = 1500
const ANSWER_MS = 8000
/** What comes later than this after an answer is no part of it. */
const QUIET_MS = 50
const CLOSE_MS = 3000

/** An outcome, and how many of its answers the app made. */
export type Seen = Outcome & { readonly relayed: number }

/** Sends one probe over a connection of its own. */
export async function ask(port: number, probe: Probe, places: Places): Promise<Seen> {
  const client = new RawClient(port)
  await once(client.socket, 'connect')
  try {
    const first = bytesOf(probe.send, places)
    client.write(first)
    const answers = await listen(client, 0, first, probe.rule)
    const [final] = answers
    const state = {
      status: final?.status ?? null,
      fields: final?.fields ?? new Map<string, string>(),
      body: final?.body ?? '',
      answers: answers.length,
      hasInterim: /^HTTP\/1\.1 1\d\d /.test(client.text),
      isClosed: client.hasEnded || client.error !== null,
    }
    let relayed = relayedOf(answers)
    let second: Outcome['second'] = null
    if (probe.then !== undefined && !state.isClosed) {
      const from = client.text.length
      const next = bytesOf(probe.then, places)
      client.write(next)
      const more = await listen(client, from, next.trimStart(), {})
      relayed += relayedOf(more)
      second = { status: more[0]?.status ?? null, answers: more.length }
    }
    return { ...state, second, relayed }
  } finally {
    client.socket.destroy()
  }
}

const relayedOf = (answers: readonly Answer[]) =>
  answers.filter(({ fields }) => fields.has('x-seen')).length

async function listen(
  client: RawClient,
  from: number,
  sent: string,
  rule: Pick<Rule, 'isSilenceRight' | 'isCloseAwaited'>,
): Promise<Answer[]> {
  const isHead = sent.startsWith('HEAD ')
  const begin = performance.now()
  const waitMs = rule.isSilenceRight === true ? SILENCE_MS : ANSWER_MS
  const quietMs = rule.isCloseAwaited === true ? CLOSE_MS : QUIET_MS
  let length = -1
  let changedAt = begin
  for (;;) {
    const nowMs = performance.now()
    if (client.text.length !== length) {
      length = client.text.length
      changedAt = nowMs
    }
    const answers = parseAnswers(client.text.slice(from), isHead)
    if (client.hasEnded || client.error !== null) return answers
    if (answers.length > 0 && nowMs - changedAt > quietMs) return answers
    if (nowMs - begin > waitMs) return answers
    await new Promise(resolve => setTimeout(resolve, 5))
  }
}

export interface Answer {
  readonly status: number
  readonly fields: ReadonlyMap<string, string>
  readonly body: string
}

/** The final answers that are whole, in their order. */
export function parseAnswers(text: string, isHead: boolean): Answer[] {
  const answers: Answer[] = []
  for (let at = 0; ; ) {
    const end = text.indexOf('\r\n\r\n', at)
    if (end < 0) return answers
    const [line = '', ...lines] = text.slice(at, end).split('\r\n')
    const status = Number(/^HTTP\/1\.1 (\d{3}) /.exec(line)?.[1] ?? 0)
    const fields = new Map<string, string>()
    for (const field of lines) {
      const colon = field.indexOf(':')
      fields.set(field.slice(0, colon).toLowerCase(), field.slice(colon + 1).trim())
    }
    at = end + 4
    if (status >= 100 && status < 200 && status !== 101) continue
    const bodyless = isHead || status === 204 || status === 304 || status === 101
    if (!bodyless && fields.get('transfer-encoding') === 'chunked') {
      const taken = dechunk(Buffer.from(text.slice(at), 'latin1'))
      if (taken === null) return answers
      answers.push({ status, fields, body: taken.value.toString('latin1') })
      at += taken.end
      continue
    }
    const length = bodyless ? 0 : Number(fields.get('content-length') ?? 0)
    if (text.length < at + length) return answers
    answers.push({ status, fields, body: text.slice(at, at + length) })
    at += length
  }
}
