import { randomBytes } from 'node:crypto'
import { stat } from 'node:fs/promises'
import type { SecureContext } from 'node:tls'
import { EnvError } from '../../registry/lib/env.ts'
import type { Log } from '../../registry/lib/log.ts'
import type { TlsContexts } from '../http1/secure-socket.ts'
import { type Certificate, loadCertificate } from './certificate.ts'
import { type PairFiles, readTlsFiles, type TlsFileNames, type TlsFiles } from './tls-files.ts'

export interface TlsKeysOptions {
  readonly names: TlsFileNames
  /** 48 bytes that all workers of a gateway share; absent: made here. */
  readonly ticketKeys?: Buffer | undefined
  /** How often the files are looked at, in milliseconds. */
  readonly reloadMs: number
  readonly log: Log
}

interface Held extends Certificate {
  /** Of both files when they were read. */
  readonly print: string
}

/** The entry of TLS_CERT_FILE and TLS_KEY_FILE among the hosts. */
const STANDARD = ''
const WARN_BEFORE_MS = 14 * 86_400_000
const WARN_EVERY_MS = 86_400_000
const TICKET_KEY_BYTES = 48

/**
 * What is wrong with the files that `names` names, as problems of the environment; empty: nothing, or no
 * TLS is wanted.
 */
export function tlsProblems(names: TlsFileNames): string[] {
  let files: TlsFiles | null
  try {
    files = readTlsFiles(names)
  } catch (error) {
    return [(error as Error).message]
  }
  if (files === null) return []
  const ticketKeys = Buffer.alloc(TICKET_KEY_BYTES)
  const problems: string[] = []
  for (const [host, pair] of pairsOf(files)) {
    try {
      loadCertificate(pair, host === STANDARD ? null : host, ticketKeys)
    } catch (error) {
      problems.push(`${variableOf(host)}: ${(error as Error).message}`)
    }
  }
  return problems
}

/**
 * The certificates of the public listener, read again when their files change (a Kubernetes secret is
 * swapped beneath its mount) or when `reload` is called. What cannot be read or does not fit together
 * stays out: the certificate at hand serves on, and the log says so once. Connections are not touched, for
 * a certificate matters in the handshake alone.
 */
export class TlsKeys implements TlsContexts {
  readonly #names: TlsFileNames
  readonly #ticketKeys: Buffer
  readonly #log: Log
  readonly #timer: NodeJS.Timeout
  #files: TlsFiles
  #held: ReadonlyMap<string, Held>
  /** By host, what keeps its files from being used. */
  #complaints: ReadonlyMap<string, string> = new Map()
  #reloading: Promise<void> | null = null
  #warnedAtMs = Number.NEGATIVE_INFINITY

  private constructor(options: TlsKeysOptions, files: TlsFiles, held: ReadonlyMap<string, Held>) {
    this.#names = options.names
    this.#ticketKeys = options.ticketKeys as Buffer
    this.#log = options.log
    this.#files = files
    this.#held = held
    this.#warnOfExpiry(Date.now())
    this.#timer = setInterval(() => void this.reload(), options.reloadMs)
    this.#timer.unref()
  }

  /**
   * null: no TLS is wanted.
   *
   * @throws EnvError with all problems of the files
   */
  static async open(given: TlsKeysOptions): Promise<TlsKeys | null> {
    const { names } = given
    const problems = tlsProblems(names)
    if (problems.length > 0) throw new EnvError(problems)
    const files = readTlsFiles(names)
    if (files === null) return null
    const options = { ...given, ticketKeys: given.ticketKeys ?? makeTicketKeys() }
    const held = new Map<string, Held>()
    for (const [host, pair] of pairsOf(files)) {
      held.set(host, await load(host, pair, options.ticketKeys))
    }
    return new TlsKeys(options, files, held)
  }

  get standard(): SecureContext {
    return (this.#held.get(STANDARD) as Held).context
  }

  contextFor(serverName: string): SecureContext | null {
    const name = serverName.toLowerCase()
    const held = this.#held.get(name) ?? this.#held.get(`*${name.slice(name.indexOf('.'))}`)
    return held?.context ?? null
  }

  /** Seconds until the first of all certificates ends; negative once it has. */
  expiresInS(nowMs: number): number {
    return (this.#soonest().notAfterMs - nowMs) / 1000
  }

  /** Certificates whose files could not be taken over: an earlier one serves in their place. */
  get refusedCount(): number {
    return this.#complaints.size
  }

  /** Looks at all files. Never rejects; what is wrong is logged. Calls while one runs share it. */
  reload(): Promise<void> {
    this.#reloading ??= this.#reload()
      .catch(error => this.#log.error({ err: error }, 'certificates not reloaded'))
      .finally(() => {
        this.#reloading = null
      })
    return this.#reloading
  }

  close(): void {
    clearInterval(this.#timer)
  }

  async #reload(): Promise<void> {
    const complaints = new Map<string, string>()
    try {
      this.#files = readTlsFiles(this.#names) as TlsFiles
    } catch (error) {
      complaints.set('TLS_SNI_FILE', (error as Error).message)
    }
    const held = new Map<string, Held>()
    const taken: string[] = []
    for (const [host, pair] of pairsOf(this.#files)) {
      const before = this.#held.get(host)
      try {
        const now = await this.#loadIfChanged(host, pair, before)
        held.set(host, now)
        if (now !== before) taken.push(host === STANDARD ? 'standard' : host)
      } catch (error) {
        complaints.set(host, `${variableOf(host)}: ${(error as Error).message}`)
        if (before !== undefined) held.set(host, before)
      }
    }
    this.#held = held
    for (const [host, complaint] of complaints) {
      if (this.#complaints.get(host) === complaint) continue
      this.#log.error({ reason: complaint }, 'certificate not taken over, the one before serves on')
    }
    this.#complaints = complaints
    if (taken.length > 0) {
      this.#log.info({ certificates: taken, expires: this.#expires() }, 'certificates taken over')
      this.#warnedAtMs = Number.NEGATIVE_INFINITY
    }
    this.#warnOfExpiry(Date.now())
  }

  async #loadIfChanged(host: string, pair: PairFiles, before: Held | undefined): Promise<Held> {
    if (before !== undefined && (await printOf(pair)) === before.print) return before
    const now = await load(host, pair, this.#ticketKeys)
    const nowMs = Date.now()
    if (before !== undefined && now.notAfterMs <= nowMs && before.notAfterMs > nowMs) {
      throw new Error(`${pair.cert} has expired`)
    }
    return now
  }

  #warnOfExpiry(nowMs: number): void {
    const left = this.#soonest().notAfterMs - nowMs
    if (left > WARN_BEFORE_MS || nowMs - this.#warnedAtMs < WARN_EVERY_MS) return
    this.#warnedAtMs = nowMs
    const fields = { expires: this.#expires(), certificate: this.#soonest().host }
    if (left > 0) this.#log.warn(fields, 'a certificate expires soon')
    else this.#log.error(fields, 'a certificate has expired')
  }

  #expires(): string {
    return new Date(this.#soonest().notAfterMs).toISOString()
  }

  #soonest(): { readonly host: string; readonly notAfterMs: number } {
    let soonest = { host: 'standard', notAfterMs: Number.POSITIVE_INFINITY }
    for (const [host, { notAfterMs }] of this.#held) {
      if (notAfterMs < soonest.notAfterMs) soonest = { host: host || 'standard', notAfterMs }
    }
    return soonest
  }
}

/** Keys that session tickets are sealed with (RFC 5077). They are never on disk. */
export function makeTicketKeys(): Buffer {
  return randomBytes(TICKET_KEY_BYTES)
}

function* pairsOf({ standard, hosts }: TlsFiles): Generator<[string, PairFiles]> {
  yield [STANDARD, standard]
  yield* hosts
}

/** The print first: files that change while they are read look changed the next time. */
async function load(host: string, pair: PairFiles, ticketKeys: Buffer): Promise<Held> {
  const print = await printOf(pair)
  return { ...loadCertificate(pair, host === STANDARD ? null : host, ticketKeys), print }
}

/** Through symbolic links: Kubernetes swaps one of them. */
async function printOf({ cert, key }: PairFiles): Promise<string> {
  const prints = await Promise.all(
    [cert, key].map(async file => {
      try {
        const { ino, size, mtimeNs } = await stat(file, { bigint: true })
        return `${file}|${ino}|${size}|${mtimeNs}`
      } catch (error) {
        throw new Error(`${file} cannot be read: ${(error as NodeJS.ErrnoException).code}`)
      }
    }),
  )
  return prints.join('\n')
}

function variableOf(host: string): string {
  return host === STANDARD ? 'TLS_CERT_FILE, TLS_KEY_FILE' : `TLS_SNI_FILE ${host}`
}
