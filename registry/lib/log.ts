import { type DestinationStream, type Logger, pino } from 'pino'
import { errorForLog } from './log-error.ts'

export type Log = Logger

/**
 * Names under which a secret could stand in a log object, at the top and one level down. Redaction is
 * the second net: the first is that secrets are not passed to a logger.
 */
const SECRET_NAMES = [
  'password',
  'db_password_encrypted',
  'bucket_access_key_encrypted',
  'bucket_secret_key_encrypted',
  'accessKey',
  'secretKey',
  'access_key',
  'secret_key',
  'authorization',
  'cookie',
  'refreshToken',
  'accessToken',
  'tempToken',
  'mac',
  '["x-tenant-context"]',
  '["x-tenant-request"]',
  '["x-admin-api-key"]',
]

/** JSON lines on standard output, or on `destination` in tests. */
export function makeLog(name: string, level: string, destination?: DestinationStream): Log {
  const paths = SECRET_NAMES.flatMap(secret =>
    secret.startsWith('[') ? [secret, `*${secret}`] : [secret, `*.${secret}`],
  )
  const options = {
    name,
    level,
    redact: { paths, censor: '[redacted]' },
    serializers: { err: (error: unknown) => errorForLog(error) },
    formatters: { level: (label: string) => ({ level: label }) },
    timestamp: pino.stdTimeFunctions.isoTime,
  }
  return destination === undefined ? pino(options) : pino(options, destination)
}

/** A line waits this long at most for others to be written with it. */
const FLUSH_MS = 100
const BUFFER_BYTES = 8 * 1024

/**
 * Standard output by few, large writes: with a write for each line the log costs more than the
 * request. A SIGKILL loses the lines of the last 100 ms; every other end writes them out.
 */
export function bufferedStdout(): DestinationStream {
  return buffered({ minLength: BUFFER_BYTES })
}

/** PIPE_BUF of Linux: a pipe takes a write of this size whole (POSIX write(2)). */
const ATOMIC_WRITE_BYTES = 4096

/** The same for a standard output that other processes write to: no line is torn by another's. */
export function sharedStdout(): DestinationStream {
  return buffered({ minLength: ATOMIC_WRITE_BYTES / 2, maxWrite: ATOMIC_WRITE_BYTES })
}

function buffered(sizes: { minLength: number; maxWrite?: number }): DestinationStream {
  const destination = pino.destination({ dest: 1, sync: false, ...sizes })
  setInterval(() => destination.flush(), FLUSH_MS).unref()
  process.on('exit', () => {
    try {
      destination.flushSync()
    } catch {
      // Standard output is gone: there is nobody left to tell.
    }
  })
  return destination
}
