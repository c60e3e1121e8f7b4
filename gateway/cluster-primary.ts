import cluster from 'node:cluster'
import type { AddressInfo } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'
import { Counter, Gauge, Registry } from 'prom-client'
import { type Exposition, expose } from '../registry/lib/exposition.ts'
import type { Log } from '../registry/lib/log.ts'
import { showProcess } from '../registry/lib/process-metrics.ts'
import { Child, type StopOrder } from './cluster-child.ts'
import { ClusterFigures } from './cluster-figures.ts'
import { RestartPace } from './cluster-pace.ts'
import { EXIT_USAGE_LOST } from './exit-codes.ts'
import { makeTicketKeys } from './tls/tls-keys.ts'

export interface PrimaryOptions {
  readonly workers: number
  /** The public port; 0 lets the system choose one for all. */
  readonly port: number
  readonly drainTimeoutMs: number
  /** Not ready for so long before the first worker goes. */
  readonly drainNoticeMs: number
  readonly log: Log
  /** No worker can start, and none ever has: the reason, once. */
  readonly onFatal: (error: Error) => void
}

/** From fork to ready, in a rolling restart. */
const READY_MS = 30_000
/** A scrape waits this long for a worker's figures; then those that were heard last are shown. */
const COLLECT_MS = 1000
/** Also what a worker that is killed may have counted unseen. */
const BEAT_MS = 5000
/** Beats without an answer (30 s) until a worker counts as hung, and is killed and replaced. */
const MISSED_BEATS_MAX = 6
/** How long idle clients of a worker that is replaced may go on: few of them then lose a race. */
const IDLE_GRACE_MS = 2000

/**
 * Supervises the workers, and serves no tenant itself: replaces those that end, replaces all in turn on
 * `roll`, and shows them as one.
 *
 * Connections are handed out by this process to workers that are free, in turn (SCHED_RR). The other
 * way, where all workers wait on one socket (SCHED_NONE), saves a hop per connection, but the worker
 * that wakes takes all that is queued, and a load balancer's few, long-lived connections stay there: of
 * 64 opened at once, the least of 4 workers got 1 in each of three runs, and 6, 6 and 13 in turn. And a
 * connection that is handed to a worker as it closes comes back and goes to another. The price: one
 * that is under way to a worker at the moment of its SIGKILL hangs until its client gives up.
 */
export class Primary {
  readonly #options: PrimaryOptions
  readonly #children = new Set<Child>()
  readonly #missedBeats = new WeakMap<Child, number>()
  readonly #figures = new ClusterFigures()
  readonly #pace = new RestartPace()
  readonly #own = new Registry()
  readonly #ends: Counter<'reason'>
  #beat: NodeJS.Timeout | null = null
  #refill: NodeJS.Timeout | null = null
  #rolling: Promise<void> | null = null
  #isRollAsked = false
  #isStopping = false
  #isUsageLost = false
  #hasBeenReady = false
  /** Made anew for each roll, so that a recorded session is not readable for ever by who gets at them. */
  #ticketKeys = makeTicketKeys()
  /** What workers are told to listen on. */
  #port: number
  #portFound: number
  #onListening: ((address: AddressInfo) => void) | null = null

  constructor(options: PrimaryOptions) {
    this.#options = options
    this.#port = options.port
    this.#portFound = options.port
    showProcess(this.#own, 'doorman_')
    this.#ends = new Counter({
      name: 'doorman_worker_ends_total',
      help: 'Workers that ended unasked, or were killed because they hung. A rise: look for “worker ended” in the log, which says why.',
      labelNames: ['reason'] as const,
      registers: [this.#own],
    })
    this.#ends.inc({ reason: 'ended' }, 0)
    this.#ends.inc({ reason: 'hung' }, 0)
    const children = this.#children
    new Gauge({
      name: 'doorman_workers_ready',
      help: 'Workers that serve requests. Less than GATEWAY_WORKERS for longer than a restart takes: workers crash at their start, the log says why.',
      registers: [this.#own],
      collect() {
        this.set([...children].filter(({ state }) => state === 'ready').length)
      },
    })
  }

  /** Resolves with the public address when all workers listen; never, where none can. */
  start(): Promise<AddressInfo> {
    cluster.schedulingPolicy = cluster.SCHED_RR
    // Keeps NaN, with which prom-client says that nothing was measured.
    cluster.setupPrimary({ serialization: 'advanced' })
    this.#beat = setInterval(() => this.#checkPulse(), BEAT_MS)
    const listening = new Promise<AddressInfo>(resolve => {
      this.#onListening = resolve
    })
    this.#fill()
    return listening
  }

  /** null: at least one worker serves; else what is missing, in words. */
  whyNotReady(): string | null {
    if (this.#isStopping) return 'draining'
    const children = [...this.#children]
    if (children.some(({ state }) => state === 'ready')) return null
    const reason = children.find(({ state }) => state === 'listening')?.whyNotReady
    return reason ?? 'no worker listens yet'
  }

  /** The metrics of all workers and of this process as one text. */
  async metrics(accept: string | undefined): Promise<Exposition> {
    await Promise.all([...this.#children].map(child => child.collect(COLLECT_MS)))
    const living = [...this.#children].map(({ figures }) => figures)
    const own = await this.#own.getMetricsAsJSON()
    return expose(this.#figures.view([own, ...living]), accept)
  }

  /**
   * Replaces each worker in turn: a new one is ready before an old one goes. It reads its files again
   * (routes, certificates); the environment is that of the primary's start. Where a new one does not
   * become ready, the old ones stay. Asked for during a roll: one more follows.
   */
  roll(): Promise<void> {
    if (this.#isStopping) return Promise.resolve()
    if (this.#rolling !== null) this.#isRollAsked = true
    this.#rolling ??= this.#rollAll().finally(() => {
      this.#rolling = null
    })
    return this.#rolling
  }

  /**
   * Not ready first; then all workers drain, and are gone when this resolves.
   *
   * @returns false: one of them has lost usage, see `EXIT_USAGE_LOST`
   */
  async stop(): Promise<boolean> {
    this.#isStopping = true
    if (this.#refill !== null) clearTimeout(this.#refill)
    const { drainTimeoutMs, drainNoticeMs } = this.#options
    const noticeMs = Math.min(drainNoticeMs, drainTimeoutMs / 2)
    await delay(noticeMs)
    const leftMs = drainTimeoutMs - noticeMs
    const order = { drainMs: drainMsOf(leftMs), idleGraceMs: IDLE_GRACE_MS, killMs: leftMs + 500 }
    // A worker that is being replaced is already draining, and keeps its own deadline.
    for (const child of this.#children) child.stop(order)
    await Promise.all([...this.#children].map(({ gone }) => gone))
    if (this.#beat !== null) clearInterval(this.#beat)
    return !this.#isUsageLost
  }

  /** Last resort at this process's own end. */
  killAll(): void {
    for (const child of this.#children) child.kill()
  }

  async #rollAll(): Promise<void> {
    const { log } = this.#options
    do {
      this.#isRollAsked = false
      this.#ticketKeys = makeTicketKeys()
      log.info({ workers: this.#options.workers }, 'rolling restart')
      for (const old of [...this.#children]) {
        if (this.#isStopping) return
        if (!old.isActive) continue
        if (!(await this.#replace(old))) return
      }
      log.info('rolling restart done')
    } while (this.#isRollAsked)
  }

  async #replace(old: Child): Promise<boolean> {
    const { log, drainTimeoutMs } = this.#options
    const fresh = this.#fork()
    if (!(await fresh.becomesReady(READY_MS))) {
      if (this.#isStopping) return false
      const reason = fresh.fatal ?? (fresh.state === 'gone' ? 'it ended' : 'it took too long')
      log.error({ worker: fresh.id, reason }, 'rolling restart stopped: a new worker is not ready')
      fresh.stop(AT_ONCE)
      return false
    }
    old.stop({
      drainMs: drainMsOf(drainTimeoutMs),
      idleGraceMs: IDLE_GRACE_MS,
      killMs: drainTimeoutMs + 500,
    })
    await old.gone
    return true
  }

  #fork(): Child {
    // While others serve, a worker that cannot would only spoil requests.
    const isAlone = ![...this.#children].some(({ state }) => state === 'ready')
    const child = new Child(cluster.fork(), { onChange: changed => this.#onChange(changed) })
    this.#children.add(child)
    child.send({
      type: 'start',
      port: this.#port,
      listen: isAlone ? 'at once' : 'when ready',
      ticketKeys: this.#ticketKeys,
    })
    this.#options.log.info({ worker: child.id, worker_pid: child.pid }, 'worker started')
    return child
  }

  /** Forks what is missing. */
  #fill(): void {
    this.#refill = null
    while (!this.#isStopping && this.#activeCount() < this.#options.workers) this.#fork()
  }

  #activeCount(): number {
    return [...this.#children].filter(({ isActive }) => isActive).length
  }

  #onChange(child: Child): void {
    if (child.state === 'ready') this.#hasBeenReady = true
    if (child.address !== null) this.#portFound = child.address.port
    if (child.fatal !== null && !this.#hasBeenReady && !this.#isStopping) {
      return this.#options.onFatal(new Error(child.fatal))
    }
    if (child.state === 'gone') this.#bury(child)
    if (this.#isStopping) return
    this.#announce()
    const children = [...this.#children]
    if (!children.some(({ isServing }) => isServing)) {
      // With the last listener the port is free again: where the system chose it, it must not change.
      this.#port = this.#portFound
      for (const waiting of children) waiting.send({ type: 'listen', port: this.#port })
    }
    if (!child.isActive) this.#refillAfter(child)
  }

  #bury(child: Child): void {
    const { log } = this.#options
    this.#children.delete(child)
    this.#figures.retire(child.figures)
    const fields = { worker: child.id, worker_pid: child.pid, end: child.end }
    if (this.#isStopping && child.end === EXIT_USAGE_LOST) this.#isUsageLost = true
    if (child.isDismissed || this.#isStopping) return log.info(fields, 'worker stopped')
    this.#ends.inc({ reason: child.isHung ? 'hung' : 'ended' })
    log.error({ ...fields, reason: child.fatal ?? undefined }, 'worker ended')
  }

  #refillAfter(child: Child): void {
    if (this.#refill !== null || this.#activeCount() >= this.#options.workers) return
    const delayMs = this.#pace.delayMs(performance.now() - child.startedAt)
    this.#refill = setTimeout(() => this.#fill(), delayMs)
  }

  #announce(): void {
    const serving = [...this.#children].filter(({ isServing }) => isServing)
    const address = serving[0]?.address
    if (serving.length < this.#options.workers || address == null) return
    this.#onListening?.(address)
    this.#onListening = null
  }

  /** Figures are collected at each beat too, so that a SIGKILL loses no more than a beat's. */
  #checkPulse(): void {
    for (const child of this.#children) {
      const missed = child.isStuck ? (this.#missedBeats.get(child) ?? 0) + 1 : 0
      this.#missedBeats.set(child, missed)
      if (missed >= MISSED_BEATS_MAX) {
        this.#options.log.error({ worker: child.id, worker_pid: child.pid }, 'worker hangs, killed')
        child.isHung = true
        child.kill()
      }
      void child.collect(COLLECT_MS)
    }
  }
}

const AT_ONCE: StopOrder = { drainMs: 0, idleGraceMs: 0, killMs: 2000 }

/** A second before the supervisor's deadline, for what is left to do after the drain. */
function drainMsOf(drainTimeoutMs: number): number {
  return Math.max(0, drainTimeoutMs - 1000)
}
