import { Fault } from '../../registry/lib/errors.ts'
import type { Exchange } from '../exchange.ts'

/** As at identification (DESIGN 5). */
const CLOCK_TOLERANCE_MS = 30_000

/**
 * Looks again at the token of a request that was held, for a verdict does not outlive it (HARDENING B.9).
 *
 * @throws Fault TOKEN_EXPIRED, TOKEN_INVALID
 */
export function readmit(
  exchange: Exchange,
  isRevoked: (exchange: Exchange) => boolean,
  nowMs: number,
): void {
  const exp = exchange.principal?.exp
  if (exp !== undefined && exp * 1000 + CLOCK_TOLERANCE_MS <= nowMs) {
    throw new Fault('TOKEN_EXPIRED', 'expired while it was held')
  }
  if (isRevoked(exchange)) throw new Fault('TOKEN_INVALID', 'revoked while it was held')
}
