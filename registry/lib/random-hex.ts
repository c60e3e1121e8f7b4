import { randomFillSync } from 'node:crypto'

/** Random digits are made in bulk: a call into the generator costs more than the digits. */
const POOL_BYTES = 4096
const pool = Buffer.alloc(POOL_BYTES)
let digits = ''
let digitsUsed = 0

/** `count` lower-case hex digits. */
export function randomHex(count: number): string {
  if (digitsUsed + count > digits.length) {
    digits = randomFillSync(pool).toString('hex')
    digitsUsed = 0
  }
  digitsUsed += count
  return digits.slice(digitsUsed - count, digitsUsed)
}
