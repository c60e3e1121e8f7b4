import { createServer, type Server, type Socket, connect as tcpConnect } from 'node:net'
import { resetSocket } from './lib/reset-socket.ts'

/** What a link does to the bytes that pass; from then on, for open connections too. */
export interface LinkFaults {
  /** Each piece arrives so much later, in each direction; the order is kept. */
  readonly latencyMs: number
  /** Nothing passes, the end of a connection included; connects are accepted, as a hung host's are. */
  readonly stall: boolean
  /** The same of what the server says alone: it hears and does what it is asked, and nobody learns of it. */
  readonly stallAnswers: boolean
  /** In each direction; null: as fast as it comes. */
  readonly bytesPerS: number | null
}

/** For tests: a TCP link to a real server, which fails on demand. */
export interface FaultProxy {
  readonly host: string
  /** Stays the same however often the link is refused and restored. */
  readonly port: number
  /** Connections whose client has not left. */
  readonly connections: number
  /** Connections since the start, for "was it dialled?". */
  readonly accepted: number
  /** What is not named stays as it was. */
  set(faults: Partial<LinkFaults>): void
  /** RST on every open connection, both ends; new ones pass. */
  resetAll(): void
  /** New connections are refused (ECONNREFUSED); open ones go on. */
  refuse(): void
  /** `refuse` and `resetAll`: the server is gone. */
  cut(): void
  /** Listens again and takes back every fault. */
  restore(): Promise<void>
  /** Where new connections lead from now on (a failover). */
  target(host: string, port: number): void
  /** Ends everything. */
  stop(): Promise<void>
}

const NO_FAULTS: LinkFaults = {
  latencyMs: 0,
  stall: false,
  stallAnswers: false,
  bytesPerS: null,
}
/** What one direction holds back before its sender is paused: about what two kernels would buffer. */
const HELD_BYTES_MAX = 1024 * 1024
/** Grain of the slow link. */
const TICK_MS = 20
/** Longest that `restore` tries to get its port back. */
const LISTEN_MS = 2000

/** A proxy on a free port of 127.0.0.1 in front of `server`. */
export async function startFaultProxy(server: {
  readonly host: string
  readonly port: number
}): Promise<FaultProxy> {
  let to = { host: server.host, port: server.port }
  let faults = NO_FAULTS
  let accepted = 0
  let listener: Server | null = null
  const links = new Set<Link>()

  const accept = (client: Socket) => {
    accepted += 1
    const upstream = tcpConnect({ ...to, allowHalfOpen: true, noDelay: true })
    const link = new Link(client, upstream, () => faults)
    links.add(link)
    link.onClose = () => links.delete(link)
  }
  const listen = (at: number) =>
    new Promise<Server>((resolve, reject) => {
      const made = createServer({ allowHalfOpen: true, noDelay: true }, accept)
      made.once('error', reject)
      made.listen(at, '127.0.0.1', () => {
        made.removeListener('error', reject).on('error', () => {})
        resolve(made)
      })
    })
  listener = await listen(0)
  const { port } = listener.address() as { port: number }

  const proxy: FaultProxy = {
    host: '127.0.0.1',
    port,
    get connections() {
      return [...links].filter(link => link.hasClient).length
    },
    get accepted() {
      return accepted
    },
    set(changes) {
      faults = { ...faults, ...changes }
      for (const link of links) link.wake()
    },
    resetAll() {
      for (const link of [...links]) link.reset()
    },
    refuse() {
      listener?.close()
      listener = null
    },
    cut() {
      proxy.refuse()
      proxy.resetAll()
    },
    async restore() {
      proxy.set(NO_FAULTS)
      const deadline = Date.now() + LISTEN_MS
      while (listener === null) {
        try {
          listener = await listen(port)
        } catch (error) {
          // Another process may hold the port for the moment of one connect of its own.
          if (Date.now() > deadline) throw error
          await new Promise(resolve => setTimeout(resolve, TICK_MS))
        }
      }
    },
    target(host, newPort) {
      to = { host, port: newPort }
    },
    async stop() {
      proxy.cut()
      // The sockets are gone with their 'close', one turn later.
      await new Promise(resolve => setImmediate(resolve))
    },
  }
  return proxy
}

/** One client's connection and the one behind it. */
class Link {
  onClose: () => void = () => {}
  readonly #client: Socket
  readonly #upstream: Socket
  readonly #faults: () => LinkFaults
  readonly #directions: readonly [Direction, Direction]
  #open = 2
  #isBroken = false

  constructor(client: Socket, upstream: Socket, faults: () => LinkFaults) {
    this.#client = client
    this.#upstream = upstream
    this.#faults = faults
    this.#directions = [
      new Direction(client, upstream, faults),
      new Direction(upstream, client, () => {
        const all = faults()
        return all.stallAnswers ? { ...all, stall: true } : all
      }),
    ]
    for (const socket of [client, upstream]) {
      // A connection that breaks breaks on both sides, unless nothing passes at the moment.
      socket.on('error', () => {
        this.#isBroken = true
        this.wake()
      })
      socket.once('close', () => {
        this.#open -= 1
        if (this.#open === 0) this.onClose()
      })
    }
  }

  get hasClient(): boolean {
    return !this.#client.destroyed && !this.#directions[0].hasEnded
  }

  wake(): void {
    if (this.#isBroken && !this.#faults().stall) this.reset()
    else for (const direction of this.#directions) direction.wake()
  }

  reset(): void {
    for (const direction of this.#directions) direction.stop()
    for (const socket of [this.#client, this.#upstream]) {
      // Before it is connected there is nobody to send a RST to.
      if (socket.connecting) socket.destroy()
      else resetSocket(socket)
    }
  }
}

/** The bytes of one direction, in order, each no earlier than it is due. */
class Direction {
  /** The sender has said its last word; it may not have been passed on yet. */
  hasEnded = false
  readonly #from: Socket
  readonly #to: Socket
  readonly #faults: () => LinkFaults
  readonly #held: { bytes: Buffer; readonly dueAt: number }[] = []
  #heldBytes = 0
  #nextAt = 0
  #timer: NodeJS.Timeout | undefined
  #isStopped = false

  constructor(from: Socket, to: Socket, faults: () => LinkFaults) {
    this.#from = from
    this.#to = to
    this.#faults = faults
    from.on('data', bytes => {
      this.#held.push({ bytes, dueAt: performance.now() + faults().latencyMs })
      this.#heldBytes += bytes.length
      if (this.#heldBytes > HELD_BYTES_MAX) from.pause()
      this.wake()
    })
    from.on('end', () => {
      this.hasEnded = true
      this.#held.push({ bytes: Buffer.alloc(0), dueAt: performance.now() + faults().latencyMs })
      this.wake()
    })
    to.on('drain', () => this.wake())
  }

  /** Passes on what may pass now, and comes back for the rest. */
  wake(): void {
    clearTimeout(this.#timer)
    for (let head = this.#held[0]; head !== undefined; head = this.#held[0]) {
      const { stall, bytesPerS } = this.#faults()
      // Whoever takes the fault back, or the peer's 'drain', wakes us.
      if (stall || this.#isStopped || this.#to.writableNeedDrain) return
      const waitMs = Math.max(head.dueAt, bytesPerS === null ? 0 : this.#nextAt) - performance.now()
      if (waitMs > 0) {
        this.#timer = setTimeout(() => this.wake(), Math.ceil(waitMs))
        return
      }
      if (head.bytes.length === 0) {
        this.#held.shift()
        this.#to.end()
        return
      }
      const length =
        bytesPerS === null ? head.bytes.length : Math.max(1, (bytesPerS * TICK_MS) / 1000)
      const piece = head.bytes.subarray(0, Math.floor(length))
      head.bytes = head.bytes.subarray(piece.length)
      if (head.bytes.length === 0) this.#held.shift()
      if (bytesPerS !== null) {
        this.#nextAt = performance.now() + (piece.length / bytesPerS) * 1000
      }
      this.#heldBytes -= piece.length
      if (this.#heldBytes <= HELD_BYTES_MAX && this.#from.isPaused()) this.#from.resume()
      this.#to.write(piece)
    }
  }

  stop(): void {
    this.#isStopped = true
    clearTimeout(this.#timer)
    this.#held.length = 0
  }
}
