import { readFileSync } from 'node:fs'
import { dirname, resolve } from 'node:path'
import { z } from 'zod'

/** Paths of a certificate chain, the own certificate first, and of its key; both in PEM. */
export interface PairFiles {
  readonly cert: string
  readonly key: string
}

/** Where the certificates of the public listener are. */
export interface TlsFiles {
  /** For clients that name no host, or one that is not in `hosts`. */
  readonly standard: PairFiles
  /** By host name, or by `*.` and a domain for each of its direct subdomains; lower case. */
  readonly hosts: ReadonlyMap<string, PairFiles>
}

/** TLS_CERT_FILE, TLS_KEY_FILE, TLS_SNI_FILE. */
export interface TlsFileNames {
  readonly cert: string | undefined
  readonly key: string | undefined
  readonly hosts: string | undefined
}

/** Each host is a context of its own in memory, some tens of KiB. */
const HOSTS_MAX = 1000

const HOST =
  /^(?:\*\.)?(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)*[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$/

const HOSTS = z.record(
  z.string().regex(HOST, 'is no host name in lower case, nor *. in front of one').max(255),
  z.strictObject({ cert: z.string().min(1), key: z.string().min(1) }),
)

/**
 * null: no TLS is wanted.
 *
 * @throws Error that begins with the variable's name
 */
export function readTlsFiles({ cert, key, hosts }: TlsFileNames): TlsFiles | null {
  if (cert === undefined && key === undefined && hosts === undefined) return null
  if (cert === undefined) throw new Error('TLS_CERT_FILE is required where there is TLS')
  if (key === undefined) throw new Error('TLS_KEY_FILE is required where there is TLS')
  return { standard: { cert, key }, hosts: readHosts(hosts) }
}

/** Paths in the file are relative to it, so that certificates and their list move together. */
function readHosts(file: string | undefined): Map<string, PairFiles> {
  if (file === undefined) return new Map()
  const read = HOSTS.safeParse(readJson(file))
  if (!read.success) {
    const [issue] = read.error.issues
    throw new Error(`TLS_SNI_FILE ${issue?.path.join('.')} ${issue?.message}`)
  }
  const entries = Object.entries(read.data)
  if (entries.length > HOSTS_MAX) throw new Error(`TLS_SNI_FILE lists more than ${HOSTS_MAX} hosts`)
  const folder = dirname(file)
  return new Map(
    entries.map(([host, { cert, key }]) => [
      host,
      { cert: resolve(folder, cert), key: resolve(folder, key) },
    ]),
  )
}

function readJson(file: string): unknown {
  try {
    return JSON.parse(readFileSync(file, 'utf8'))
  } catch (error) {
    throw new Error(
      `TLS_SNI_FILE cannot be read: ${(error as NodeJS.ErrnoException).code ?? 'no JSON'}`,
    )
  }
}
