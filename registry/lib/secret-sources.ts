import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'

/**
 * Variables that hold a secret. Each may be given as NAME_FILE instead, the path of a file that holds the value, as Docker
 * and Kubernetes mount secrets: it then stands in no environment, which child processes and crash reports carry on.
 */
export const SECRET_NAMES = [
  'MASTER_ENCRYPTION_KEY',
  'MASTER_ENCRYPTION_KEY_PREVIOUS',
  'JWT_SECRET_ACCESS_TOKEN',
  'JWT_SECRET_ACCESS_TOKEN_PREVIOUS',
  'JWT_SECRET_REFRESH_TOKEN',
  'JWT_SECRET_REFRESH_TOKEN_PREVIOUS',
  'TENANT_CONTEXT_SIGNING_KEY',
  'TENANT_CONTEXT_PUBLIC_KEYS',
  'TENANT_CONTEXT_ENCRYPTION_KEY',
  'TENANT_REGISTRY_DB_URL',
  'ADMIN_API_KEY',
  'BUCKET_ACCESS_KEY',
  'BUCKET_SECRET_KEY',
  'OTEL_EXPORTER_OTLP_HEADERS',
] as const

/** Those that may also come from a command, NAME_COMMAND: a key management service that unwraps the key. */
const COMMAND_NAMES: readonly string[] = ['MASTER_ENCRYPTION_KEY', 'MASTER_ENCRYPTION_KEY_PREVIOUS']
const COMMAND_MS = 15_000
const VALUE_BYTES_MAX = 64 * 1024

export interface SecretSources {
  /** The environment with the values at their names. */
  readonly env: NodeJS.ProcessEnv
  /** By the secret's name: what is wrong with its source, without a byte of what came out of it. */
  readonly problems: ReadonlyMap<string, string>
}

/** Fetches the secrets among `names` that are given by file or command. Blocks: for the start of a process alone. */
export function readSecretSources(
  from: NodeJS.ProcessEnv,
  names: readonly string[] = SECRET_NAMES,
): SecretSources {
  const env = { ...from }
  const problems = new Map<string, string>()
  for (const name of SECRET_NAMES.filter(known => names.includes(known))) {
    const sources = [
      name,
      `${name}_FILE`,
      ...(COMMAND_NAMES.includes(name) ? [`${name}_COMMAND`] : []),
    ]
    const [source, other] = sources.filter(one => (env[one] ?? '') !== '')
    if (other !== undefined) {
      problems.set(name, `${sources.slice(0, -1).join(', ')} and ${sources.at(-1)}: one of them`)
    } else if (source !== undefined && source !== name) {
      try {
        const text = source.endsWith('_FILE') ? readFile(env[source]) : runCommand(env[source])
        env[name] = readValue(name, text)
      } catch (error) {
        problems.set(name, `${source} ${error instanceof Error ? error.message : 'failed'}`)
      }
    }
  }
  return { env, problems }
}

function readFile(path = ''): string {
  let bytes: Buffer
  try {
    bytes = readFileSync(path)
  } catch (error) {
    throw new Error(`cannot be read: ${(error as NodeJS.ErrnoException).code}`)
  }
  if (bytes.length > VALUE_BYTES_MAX) throw new Error(`is larger than ${VALUE_BYTES_MAX} bytes`)
  return bytes.toString('utf8')
}

/** Its output and what it complains of go nowhere else: either may hold the key. */
function runCommand(command = ''): string {
  try {
    return execFileSync('/bin/sh', ['-c', command], {
      encoding: 'utf8',
      timeout: COMMAND_MS,
      killSignal: 'SIGKILL',
      maxBuffer: VALUE_BYTES_MAX,
      stdio: ['ignore', 'pipe', 'ignore'],
    })
  } catch (error) {
    const { code, status, signal } = error as { code?: string; status?: number; signal?: string }
    if (code === 'ETIMEDOUT') throw new Error(`did not end within ${COMMAND_MS} ms`)
    throw new Error(
      `failed: ${code ?? signal ?? `exit code ${status}`} (run it by hand to see why)`,
    )
  }
}

/** Files and commands end in a line break, and a list may have an entry to a line. */
function readValue(name: string, text: string): string {
  const value = text.trim()
  if (value === '') throw new Error('gives nothing')
  return name.endsWith('_PREVIOUS') ? value.replace(/\s*\n\s*/g, ',') : value
}
