import { z } from 'zod'
import { readSecretSources, type SecretSources } from './secret-sources.ts'

/** All problems of an environment at once, so that an operator mends it in one go. */
export class EnvError extends Error {
  override readonly name = 'EnvError'
  readonly problems: readonly string[]

  constructor(problems: readonly string[]) {
    super(`The environment is not valid:\n${problems.map(p => `  - ${p}`).join('\n')}`)
    this.problems = problems
  }
}

/**
 * Reads `shape` from `env`. A variable set to the empty string counts as unset, as compose files and
 * manifests write it. Values never appear in the problems, for they may be secrets, which may also come from a file or a
 * command (`secret-sources.ts`).
 *
 * @param sources where they were fetched already
 * @throws EnvError with one line per problem, each beginning with the variable's name
 */
export function readEnv<S extends z.ZodRawShape>(
  shape: S,
  env: NodeJS.ProcessEnv,
  sources: SecretSources = readSecretSources(env, Object.keys(shape)),
): z.infer<z.ZodObject<S>> {
  const given = Object.fromEntries(
    Object.keys(shape).map(name => [name, sources.env[name] || undefined]),
  )
  const read = z.object(shape).safeParse(given)
  if (read.success && sources.problems.size === 0) return read.data
  const problems = (read.error?.issues ?? [])
    .map(issue => ({ name: String(issue.path[0] ?? ''), message: issue.message }))
    .filter(({ name }) => !sources.problems.has(name))
    .map(({ name, message }) => `${name} ${given[name] === undefined ? 'is required' : message}`)
  throw new EnvError([...sources.problems.values(), ...problems])
}

/** A whole number within [min, max]; the unit belongs into the variable's name. */
export function int(min: number, max: number, standard: number) {
  const message = `must be a whole number from ${min} to ${max}`
  return z
    .string()
    .regex(/^-?\d{1,15}$/, message)
    .transform(Number)
    .refine(n => n >= min && n <= max, message)
    .default(standard)
}

/** true or false, also as 1 or 0. */
export function flag(standard: boolean) {
  return z
    .enum(['true', 'false', '1', '0'], 'must be true or false')
    .transform(text => text === 'true' || text === '1')
    .default(standard)
}

/** A comma-separated list; blanks around entries are dropped. */
export function list() {
  return z
    .string()
    .transform(text =>
      text
        .split(',')
        .map(entry => entry.trim())
        .filter(entry => entry !== ''),
    )
    .default([])
}

/** A TCP port; 0 lets the system choose. */
export const port = (standard: number) => int(0, 65_535, standard)

/** A URL with one of `protocols` ("postgres:"). The text itself is kept. */
export function url(...protocols: string[]) {
  return z.string().refine(
    text => {
      const parsed = URL.parse(text)
      return parsed !== null && protocols.includes(parsed.protocol)
    },
    `must be a URL that begins with ${protocols.map(p => `${p}//`).join(' or ')}`,
  )
}

/**
 * `schema` with one more step: `read` makes the value that the code works with.
 *
 * @param read throws an Error whose message says what is wrong, without quoting a secret
 */
export function parsed<T, U>(schema: z.ZodType<T>, read: (value: T) => U) {
  return schema.transform((value, context): U => {
    try {
      return read(value)
    } catch (error) {
      const message = error instanceof Error ? error.message : 'is not valid'
      context.addIssue({ code: 'custom', message })
      return z.NEVER
    }
  })
}

/** What every binary reads. */
export const commonEnv = {
  NODE_ENV: z.string().default('development'),
  LOG_LEVEL: z
    .enum(
      ['fatal', 'error', 'warn', 'info', 'debug', 'trace', 'silent'],
      'must be fatal, error, warn, info, debug, trace or silent',
    )
    .default('info'),
} as const
