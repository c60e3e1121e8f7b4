/** Millionths: what quantities and prices are kept to. */
const SCALE_DIGITS = 6
export const SCALE = 10n ** BigInt(SCALE_DIGITS)

/** Up to 18 digits, a month's bytes among them, and 6 behind the point; no sign, no exponent. */
export const DECIMAL = /^\d{1,18}(?:\.\d{1,6})?$/

/** A decimal as whole millionths, exactly. @throws Error where it is none */
export function parseDecimal(text: string): bigint {
  if (!DECIMAL.test(text)) throw new Error('not a decimal')
  const [whole = '0', fraction = ''] = text.split('.')
  return BigInt(whole) * SCALE + BigInt(fraction.padEnd(SCALE_DIGITS, '0'))
}

/** Without zeros at its end. */
export function formatDecimal(millionths: bigint): string {
  const sign = millionths < 0n ? '-' : ''
  const size = millionths < 0n ? -millionths : millionths
  const fraction = (size % SCALE).toString().padStart(SCALE_DIGITS, '0').replace(/0+$/, '')
  return `${sign}${size / SCALE}${fraction === '' ? '' : `.${fraction}`}`
}

/** A whole number that JSON can carry. @throws Error beyond 2^53 */
export function toSafeNumber(value: bigint): number {
  const number = Number(value)
  if (!Number.isSafeInteger(number)) throw new Error('an amount is too large')
  return number
}
