import { hash, verify } from '@node-rs/argon2'

/**
 * Argon2id with the parameters that the OWASP Password Storage Cheat Sheet lists first for 19 MiB:
 * m = 19,456 KiB, t = 2, p = 1. About 20 ms of one core per hash or verification.
 */
const ARGON2ID = { algorithm: 2, memoryCost: 19_456, timeCost: 2, parallelism: 1 } as const

/** Shortest password that a new user may have, in characters. */
export const PASSWORD_LENGTH_MIN = 8
/** Longest, in bytes of UTF-8, so that nobody makes us hash megabytes. */
export const PASSWORD_BYTES_MAX = 1024

/**
 * The hash of a random text that nobody knows, made with the parameters above. A login of an unknown user
 * is verified against it, so that it takes as long as that of a known one. A test keeps it in step.
 */
export const DUMMY_PASSWORD_HASH =
  '$argon2id$v=19$m=19456,t=2,p=1$2DFMtdnPutnfyq6LfkKKHA$6Wwf08bFPQB6+CQhJZErxXaG4zzkOJtuYlrfkb/mfZM'

/** A PHC string (`$argon2id$v=19$m=19456,t=2,p=1$…`) with a salt of its own. */
export function hashPassword(password: string): Promise<string> {
  return inTurn(() => hash(password, ARGON2ID))
}

/** False also where `hashed` is no hash that Argon2 knows, after the same work; never throws. */
export async function verifyPassword(hashed: string, password: string): Promise<boolean> {
  if (Buffer.byteLength(password) > PASSWORD_BYTES_MAX) return false
  try {
    return await inTurn(() => verify(hashed, password))
  } catch {
    // Else the time would tell such users from others.
    await inTurn(() => verify(DUMMY_PASSWORD_HASH, password)).catch(() => false)
    return false
  }
}

/**
 * How many are hashed at one time. They run on the four threads that libuv has for the whole process, and
 * there the key of every new database connection is derived too (SCRAM), and host names are looked up:
 * with all threads taken, a storm of logins at one tenant keeps every tenant from connecting.
 */
const AT_ONCE = 2

let running = 0
/** Bounded by the requests that are in flight: each waits at most once. */
const waiting: (() => void)[] = []

async function inTurn<T>(work: () => Promise<T>): Promise<T> {
  // A slot is handed on, never free in between, so that nobody overtakes who waits.
  if (running < AT_ONCE) running += 1
  else await new Promise<void>(resolve => waiting.push(resolve))
  try {
    return await work()
  } finally {
    const next = waiting.shift()
    if (next === undefined) running -= 1
    else next()
  }
}
