import type { Log } from '../../registry/lib/log.ts'
import type { UpstreamClient } from '../upstream/client.ts'
import type { Replica } from './replica.ts'

export interface CheckOptions {
  readonly replicas: () => readonly Replica[]
  /** Of its own, with few connections: a check must not wait behind the traffic that it judges. */
  readonly client: UpstreamClient
  /** HEALTH_PATH. */
  readonly path: string
  readonly intervalMs: number
  /** Called where a replica became ready or ceased to be. */
  readonly onChange: (replica: Replica) => void
  readonly log: Log
}

/** A replica that says nothing may have lost one packet; one that says "not ready" means it. */
const SILENT_CHECKS_MAX = 2

/**
 * Asks every replica again and again whether it is ready: one that drains, or hangs without refusing
 * connections, is left before a request finds out.
 */
export class ActiveChecks {
  readonly #options: CheckOptions
  readonly #underWay = new Set<Replica>()
  #timer: NodeJS.Timeout | null = null

  constructor(options: CheckOptions) {
    this.#options = options
  }

  start(): void {
    this.#timer = setInterval(() => this.checkAll(), this.#options.intervalMs)
    this.#timer.unref()
    this.checkAll()
  }

  stop(): void {
    if (this.#timer !== null) clearInterval(this.#timer)
  }

  checkAll(): void {
    for (const replica of this.#options.replicas()) {
      if (!this.#underWay.has(replica)) this.#check(replica)
    }
  }

  #check(replica: Replica): void {
    const { client, path } = this.#options
    this.#underWay.add(replica)
    let status = 0
    const end = () => {
      this.#underWay.delete(replica)
      this.#judge(replica, status)
    }
    client.send(
      replica.origin,
      { method: 'GET', target: path, headers: ['user-agent', 'doorman-health'], body: null },
      {
        onHead(answered) {
          status = answered
        },
        onBytes() {},
        onEnd: end,
        onFault() {
          status = 0
          end()
        },
      },
    )
  }

  #judge(replica: Replica, status: number): void {
    const { log, onChange } = this.#options
    if (status >= 200 && status < 300) {
      replica.failedChecks = 0
      replica.restsUntilMs = 0
      if (replica.isReady) return
      replica.isReady = true
      // It most likely was started anew: tenants come back little by little.
      replica.joinedAtMs = Date.now()
      log.info({ upstream: replica.origin }, 'replica is ready')
      return onChange(replica)
    }
    replica.failedChecks++
    if (!replica.isReady || (status === 0 && replica.failedChecks < SILENT_CHECKS_MAX)) return
    replica.isReady = false
    log.warn({ upstream: replica.origin, status }, 'replica is not ready')
    onChange(replica)
  }
}
