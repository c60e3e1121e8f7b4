/** Figures and times as an operator reads them. */

const whole = new Intl.NumberFormat('en-US', { maximumFractionDigits: 0 })
const compact = new Intl.NumberFormat('en-US', { notation: 'compact', maximumFractionDigits: 1 })
const dateTime = new Intl.DateTimeFormat('en-GB', {
  ...{ year: 'numeric', month: 'short', day: '2-digit' },
  ...{ hour: '2-digit', minute: '2-digit', second: '2-digit', hour12: false },
})

export const DASH = '–'

export function count(n: number): string {
  return whole.format(n)
}

/** 1 tenant, 2 tenants. */
export function many(n: number, word: string): string {
  return `${count(n)} ${n === 1 ? word : `${word}s`}`
}

/** For charts and narrow columns: 12.3K. */
export function short(n: number): string {
  return n < 1000 ? String(Math.round(n * 100) / 100) : compact.format(n)
}

export function rate(perS: number): string {
  if (perS === 0) return '0'
  if (perS < 0.1) return '<0.1'
  return perS < 10 ? perS.toFixed(1) : short(Math.round(perS))
}

export function percent(share: number): string {
  if (share === 0) return '0%'
  if (share < 0.001) return '<0.1%'
  return `${share < 0.1 ? (share * 100).toFixed(1) : Math.round(share * 100)}%`
}

export function ms(value: number | null): string {
  if (value === null) return DASH
  if (value < 10) return `${value.toFixed(1)} ms`
  return value < 1000
    ? `${Math.round(value)} ms`
    : `${(value / 1000).toFixed(value < 1e4 ? 1 : 0)} s`
}

export function bytes(n: number): string {
  const units = ['B', 'KB', 'MB', 'GB', 'TB']
  let i = 0
  for (; n >= 1000 && i < units.length - 1; i++) n /= 1000
  return `${i === 0 || n >= 100 ? Math.round(n) : n.toFixed(1)} ${units[i]}`
}

/** How long: 3 s, 5 min, 2 h, 4 d. */
export function span(milliseconds: number): string {
  const s = Math.max(0, Math.round(milliseconds / 1000))
  if (s < 120) return `${s} s`
  if (s < 7200) return `${Math.round(s / 60)} min`
  return s < 172_800 ? `${Math.round(s / 3600)} h` : `${Math.round(s / 86_400)} d`
}

export function ago(iso: string | null, nowMs: number = Date.now()): string {
  return iso === null ? DASH : `${span(nowMs - Date.parse(iso))} ago`
}

/** In the time zone of whoever looks. */
export function time(iso: string | null): string {
  return iso === null ? DASH : dateTime.format(new Date(iso))
}

export function orDash(value: string | number | null | undefined): string {
  return value === null || value === undefined || value === '' ? DASH : String(value)
}
