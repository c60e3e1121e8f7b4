const formats = new Map<string, Intl.NumberFormat>()
/** Of ISO 4217 there are fewer. */
const FORMATS_MAX = 300

/** @param minor in the currency's minor unit, as the API has amounts */
export function money(minor: number, currency: string): string {
  const format = formatOf(currency)
  if (format === null) return `${minor} ${currency}`
  const { maximumFractionDigits: digits = 2 } = format.resolvedOptions()
  return format.format(minor / 10 ** digits)
}

function formatOf(currency: string): Intl.NumberFormat | null {
  const known = formats.get(currency)
  if (known !== undefined) return known
  if (!/^[A-Z]{3}$/.test(currency) || formats.size >= FORMATS_MAX) return null
  const options = { style: 'currency', currency, currencyDisplay: 'code' } as const
  const made = new Intl.NumberFormat('en-US', options)
  formats.set(currency, made)
  return made
}
