import { createHmac, type KeyObject, randomUUID } from 'node:crypto'

/** Life of the bench's tokens in seconds: longer than any run. */
const TOKEN_LIFE_S = 6 * 3600
const HEADER = encode({ alg: 'HS256', typ: 'JWT' })

/** An access token as the API issues them (DESIGN 4.1): every claim that the gateway reads. */
export function makeToken(
  secret: KeyObject | string,
  tenantId: string,
  user: number,
  issuedAtS: number,
): string {
  const payload = encode({
    id: randomUUID(),
    email: `user${user}@example.com`,
    role_id: 1,
    tenant_id: tenantId,
    type: 'access',
    jti: randomUUID(),
    iat: issuedAtS,
    exp: issuedAtS + TOKEN_LIFE_S,
  })
  const signed = `${HEADER}.${payload}`
  return `${signed}.${createHmac('sha256', secret).update(signed).digest('base64url')}`
}

function encode(value: object): string {
  return Buffer.from(JSON.stringify(value)).toString('base64url')
}
