import { createHash, createHmac, pbkdf2, randomBytes } from 'node:crypto'
import { promisify } from 'node:util'

/** As many as PostgreSQL uses itself; the password is random, so that more would protect nothing. */
const ROUNDS = 4096
const SALT_BYTES = 16

/**
 * A password as PostgreSQL keeps it (RFC 5802, RFC 7677). `ALTER ROLE … PASSWORD` takes it in place of the
 * password, which so never stands in a statement that the server may log.
 *
 * @param password printable ASCII, for which SASLprep changes nothing
 */
export async function scramVerifier(password: string): Promise<string> {
  const salt = randomBytes(SALT_BYTES)
  const salted = await promisify(pbkdf2)(password, salt, ROUNDS, 32, 'sha256')
  const hmac = (text: string) => createHmac('sha256', salted).update(text).digest()
  const storedKey = createHash('sha256').update(hmac('Client Key')).digest('base64')
  const serverKey = hmac('Server Key').toString('base64')
  return `SCRAM-SHA-256$${ROUNDS}:${salt.toString('base64')}$${storedKey}:${serverKey}`
}
