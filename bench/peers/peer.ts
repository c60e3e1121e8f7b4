import type { World } from '../load/job.ts'

/** A proxy under test. */
export interface Peer {
  readonly name: string
  /** Version, or null where it is not installed here. */
  find(): Promise<string | null>
  /** In plain words, for the report: what it does, and where that is less or more than Doorman does. */
  readonly does: string
  /** It verifies the token, finds the tenant, strips copies of our names and adds a signed context. */
  readonly isFullJob: boolean
  /** Compiled while it runs: it needs a longer warm-up before its figures settle. */
  readonly isJit: boolean
  start(setting: Setting): Promise<Running>
}

/** Where a proxy runs. */
export interface Setting {
  /** Scratch folder of its own. */
  readonly dir: string
  readonly upstreamPort: number
  readonly world: World
  readonly worldFile: string
  /** Pins the proxy to its core. */
  readonly prefix: readonly string[]
  /** Client connections to be ready for. */
  readonly connectionsMax: number
  /** The gateway's Registry; null where no scenario of the run needs it. */
  readonly registry: RegistryAccess | null
  /** Where Doorman writes a CPU profile when it ends; null: it records none. */
  readonly profileDir: string | null
  /** Doorman's settings that differ from the usual ones. */
  readonly env?: Readonly<Record<string, string>>
}

export interface RegistryAccess {
  readonly url: string
  readonly masterKey: string
}

export interface Running {
  readonly port: number
  readonly pid: number
  stop(): Promise<void>
}
