import { createHash, createHmac, pbkdf2, randomBytes } from 'node:crypto'
import { promisify } from 'node:util'

const ITERATIONS = 4096
const SALT_BYTES = 16

/**
 * What PostgreSQL keeps of a password (RFC 5803, as in pg_authid): given in place of it in CREATE ROLE and
 * ALTER ROLE, so that the password itself is in no statement log of the server.
 *
 * @param password ASCII, so that SASLprep (RFC 4013) leaves it as it is
 */
export async function scramVerifier(password: string): Promise<string> {
  if (!/^[\x21-\x7e]+$/.test(password))
    throw new Error('the password has other than ASCII characters')
  const salt = randomBytes(SALT_BYTES)
  const salted = await promisify(pbkdf2)(password, salt, ITERATIONS, 32, 'sha256')
  const storedKey = createHash('sha256').update(hmac(salted, 'Client Key')).digest('base64')
  const serverKey = hmac(salted, 'Server Key').toString('base64')
  return `SCRAM-SHA-256$${ITERATIONS}:${salt.toString('base64')}$${storedKey}:${serverKey}`
}

/** A password that no one has to type: 256 bits, base64url. */
export function newPassword(): string {
  return randomBytes(32).toString('base64url')
}

function hmac(key: Buffer, text: string): Buffer {
  return createHmac('sha256', key).update(text).digest()
}
