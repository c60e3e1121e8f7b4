import { randomUUID } from 'node:crypto'
import { hostname } from 'node:os'
import type { Log } from './lib/log.ts'
import type { RegistryStore } from './store.ts'
import type { TenantRow } from './tenant-row.ts'

/** How often a gateway says that it is there. */
export const HEARTBEAT_MS = 2000
/** A gateway that has said nothing for so long is gone, or cut off from the Registry. */
export const LIVE_MS = 10_000

export interface MembershipOptions {
  readonly store: Pick<RegistryStore, 'query'>
  readonly log: Log
  /** 0: a process that is a gateway by itself. */
  readonly worker: number
  readonly version: string
  readonly heartbeatMs?: number
}

/** A serving process. */
export interface GatewayProcess {
  readonly id: string
  readonly host: string
  readonly pid: number
  /** 0: a gateway by itself. */
  readonly worker: number
  readonly address: string | null
  readonly version: string
  readonly startedAt: Date
}

/** The same, as the Registry knows it. */
export interface GatewayInstance extends GatewayProcess {
  readonly heartbeatAt: Date
}

/** Rows of the dead taken away at each heartbeat: more than one heartbeat brings. */
const PRUNE_MAX = 10

/**
 * One heartbeat, and the number of live gateways, this one included. The heartbeat is by the Registry's clock alone.
 * Rows of gateways that ended without a word go after a day: a console may show until then that they did.
 */
const BEAT = `
  WITH gone AS (
    DELETE FROM gateway_instances WHERE id IN (
      SELECT id FROM gateway_instances WHERE heartbeat_at < now() - interval '1 day'
      LIMIT ${PRUNE_MAX} FOR UPDATE SKIP LOCKED)
  )
  INSERT INTO gateway_instances (id, host, pid, worker, address, version, started_at)
  VALUES ($1, $2, $3, $4, $5, $6, $7)
  ON CONFLICT (id) DO UPDATE SET heartbeat_at = clock_timestamp(), address = excluded.address
  RETURNING 1 + (SELECT count(*) FROM gateway_instances
    WHERE id <> $1 AND heartbeat_at > now() - $8 * interval '1 ms') AS live`

/** An orderly end: from now on nobody waits for this one. */
const LEAVE = 'DELETE FROM gateway_instances WHERE id = $1'

const LIST_LIVE = `
  SELECT id, host, pid, worker, address, version, started_at, heartbeat_at FROM gateway_instances
  WHERE heartbeat_at > clock_timestamp() - $1 * interval '1 ms'
  ORDER BY host, worker, started_at`

/** The gateways that serve now. @throws Fault REGISTRY_UNAVAILABLE */
export async function liveGateways(
  store: Pick<RegistryStore, 'query'>,
): Promise<readonly GatewayInstance[]> {
  const rows = await store.query(LIST_LIVE, [LIVE_MS])
  return rows.map(row => ({
    ...gatewayProcessOf(row),
    heartbeatAt: row.heartbeat_at as Date,
  }))
}

/** From a row with these columns of gateway_instances. */
export function gatewayProcessOf(row: TenantRow): GatewayProcess {
  return {
    id: String(row.id),
    host: String(row.host),
    pid: Number(row.pid),
    worker: Number(row.worker),
    address: row.address === null ? null : String(row.address),
    version: String(row.version),
    startedAt: row.started_at as Date,
  }
}

/** This process among the gateways of the Registry. */
export class Membership {
  readonly id = randomUUID()
  readonly #options: MembershipOptions
  readonly #startedAt = new Date()
  #address: string | null = null
  #live = 1
  #timer: NodeJS.Timeout | null = null
  #beating: Promise<void> | null = null
  #isLeaving = false
  #isFailing = false

  constructor(options: MembershipOptions) {
    this.#options = options
  }

  /** Gateways that were live at the last heartbeat that was answered, this one included. */
  get live(): number {
    return this.#live
  }

  /** Enters the Registry. Before it has, no tenant may be served. @throws Fault REGISTRY_UNAVAILABLE */
  async join(): Promise<void> {
    await this.#beat()
    const { heartbeatMs = HEARTBEAT_MS } = this.#options
    this.#timer ??= setInterval(() => this.#beatAgain(), heartbeatMs).unref()
  }

  set address(address: string) {
    this.#address = address
  }

  /** Takes the row away, where the Registry can be asked; else others see it end by its silence. */
  async leave(): Promise<void> {
    this.#isLeaving = true
    if (this.#timer === null) return
    clearInterval(this.#timer)
    await this.#beating
    await this.#options.store.query(LEAVE, [this.id]).catch(() => {})
  }

  #beatAgain(): void {
    if (this.#isLeaving || this.#beating !== null) return
    this.#beating = this.#beat()
      .then(
        () => {
          this.#isFailing = false
        },
        error => {
          if (!this.#isFailing) this.#options.log.warn({ err: error }, 'heartbeat not written')
          this.#isFailing = true
        },
      )
      .finally(() => {
        this.#beating = null
      })
  }

  async #beat(): Promise<void> {
    const { store, worker, version } = this.#options
    const own = [hostname(), process.pid, worker, this.#address, version, this.#startedAt]
    const [row] = await store.query(BEAT, [this.id, ...own, LIVE_MS])
    this.#live = Number(row?.live ?? 1)
  }
}
