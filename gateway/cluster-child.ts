import type { Worker } from 'node:cluster'
import type { AddressInfo } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'
import type { Figures } from '../registry/lib/exposition.ts'
import type { ToPrimary, ToWorker } from './cluster-messages.ts'

/** `starting` → `listening` → `ready` → `draining` → `gone`; each may be skipped. */
export type ChildState = 'starting' | 'listening' | 'ready' | 'draining' | 'gone'

export interface ChildEvents {
  /** The state moved, or a fatal error was told. */
  onChange(child: Child): void
}

export interface StopOrder {
  readonly drainMs: number
  readonly idleGraceMs: number
  /** It is killed if it is still there after this. */
  readonly killMs: number
}

/** From a worker's exit until what it said before is taken for read. */
const LAST_WORDS_MS = 500

/** A worker process as the primary sees it. */
export class Child {
  readonly id: number
  readonly pid: number
  readonly startedAt = performance.now()
  /** Resolves once the process has ended and its last message is read. */
  readonly gone: Promise<void>
  state: ChildState = 'starting'
  address: AddressInfo | null = null
  whyNotReady: string | null = null
  /** Why it gave up, in its own words. */
  fatal: string | null = null
  /** Exit code or signal, once gone. */
  end: number | string | null = null
  /** Its figures as last heard. */
  figures: Figures = []
  /** True where the primary asked for its end. */
  isDismissed = false
  /** True where it was killed because it answered no more. */
  isHung = false
  readonly #worker: Worker
  readonly #events: ChildEvents
  readonly #waiting = new Set<() => void>()
  /** The question under way; a second asker waits for the same answer. */
  #collecting: Promise<void> | null = null
  #answer: (() => void) | null = null
  #killTimer: NodeJS.Timeout | null = null

  constructor(worker: Worker, events: ChildEvents) {
    this.#worker = worker
    this.#events = events
    this.id = worker.id
    this.pid = worker.process.pid ?? 0
    // A spawn that fails, or a message to a worker that has just ended: its exit tells the rest.
    worker.on('error', () => {})
    worker.on('message', (message: ToPrimary) => this.#hear(message))
    const { process } = worker
    const ended = new Promise<void>(resolve => {
      process.once('exit', (code, signal) => {
        this.end = signal ?? code
        resolve()
      })
    })
    const disconnected = new Promise<void>(resolve => process.once('disconnect', resolve))
    const notSpawned = new Promise<void>(resolve => {
      if (process.pid === undefined) process.once('error', () => resolve())
    })
    // The exit may be seen before the last messages are read: both must be over. Of a worker that is killed
    // while a connection is handed to it Node never tells the second.
    const lastWords = ended.then(() => delay(LAST_WORDS_MS))
    const isOver = Promise.all([ended, Promise.race([disconnected, lastWords])])
    this.gone = Promise.race([isOver, notSpawned]).then(() => {
      if (this.#killTimer !== null) clearTimeout(this.#killTimer)
      this.#answer?.()
      this.#move('gone')
    })
  }

  get isServing(): boolean {
    return this.state === 'listening' || this.state === 'ready'
  }

  /** One that serves or is about to. */
  get isActive(): boolean {
    return this.isServing || this.state === 'starting'
  }

  get isStuck(): boolean {
    return this.#collecting !== null
  }

  send(message: ToWorker): void {
    if (this.#worker.isConnected()) this.#worker.send(message, () => {})
  }

  /**
   * Brings `figures` up to date. Resolves after `deadlineMs` at the latest, then with the figures as
   * they were: a worker that hangs keeps nobody waiting, and is asked no second time meanwhile.
   */
  async collect(deadlineMs: number): Promise<void> {
    if (this.state === 'gone') return
    if (this.#collecting === null) {
      this.#collecting = new Promise<void>(resolve => {
        this.#answer = resolve
      }).finally(() => {
        this.#collecting = null
      })
      this.send({ type: 'collect' })
    }
    await within(this.#collecting, deadlineMs)
  }

  /** True once it is ready; false if it ends, or takes longer than `deadlineMs`. */
  async becomesReady(deadlineMs: number): Promise<boolean> {
    let check = () => {}
    const settled = new Promise<void>(resolve => {
      check = () => {
        if (this.state === 'ready' || !this.isActive || this.fatal !== null) resolve()
      }
    })
    this.#waiting.add(check)
    check()
    await within(settled, deadlineMs)
    this.#waiting.delete(check)
    return this.state === 'ready'
  }

  stop({ drainMs, idleGraceMs, killMs }: StopOrder): void {
    if (this.isDismissed || this.state === 'gone') return
    this.isDismissed = true
    this.#killTimer = setTimeout(() => this.kill(), killMs)
    this.send({ type: 'stop', drainMs, idleGraceMs })
    this.#move('draining')
  }

  /** Ends it at once. */
  kill(): void {
    if (this.state !== 'gone') this.#worker.process.kill('SIGKILL')
  }

  #hear(message: ToPrimary): void {
    switch (message.type) {
      case 'listening':
        this.address = message.address
        this.whyNotReady = message.whyNotReady
        return this.#move('listening')
      case 'ready':
        return this.#move('ready')
      case 'draining':
        return this.#move('draining')
      case 'fatal':
        this.fatal = message.message
        return this.#tell()
      case 'figures':
        this.figures = message.figures
        this.#answer?.()
    }
  }

  #move(state: ChildState): void {
    // What it said before it heard of its end does not bring it back.
    if (ORDER.indexOf(state) <= ORDER.indexOf(this.state)) return
    this.state = state
    this.#tell()
  }

  #tell(): void {
    for (const check of this.#waiting) check()
    this.#events.onChange(this)
  }
}

const ORDER: readonly ChildState[] = ['starting', 'listening', 'ready', 'draining', 'gone']

async function within(promise: Promise<void>, deadlineMs: number): Promise<void> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<void>(resolve => {
    timer = setTimeout(resolve, deadlineMs)
  })
  await Promise.race([promise, late])
  clearTimeout(timer)
}
