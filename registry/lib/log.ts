import { type DestinationStream, type Logger, pino } from 'pino'

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
    formatters: { level: (label: string) => ({ level: label }) },
    timestamp: pino.stdTimeFunctions.isoTime,
  }
  return destination === undefined ? pino(options) : pino(options, destination)
}
