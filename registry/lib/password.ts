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
  return hash(password, ARGON2ID)
}

/** False also where `hashed` is no hash that Argon2 knows; never throws. */
export async function verifyPassword(hashed: string, password: string): Promise<boolean> {
  if (Buffer.byteLength(password) > PASSWORD_BYTES_MAX) return false
  try {
    return await verify(hashed, password)
  } catch {
    return false
  }
}
