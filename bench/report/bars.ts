import type { Spread } from '../lib/stats.ts'
import { escapeHtml } from './escape.ts'

export interface Bar {
  /** Plain words; escaped here. */
  readonly label: string
  readonly spread: Spread
  readonly isOurs: boolean
}

export interface BarsOptions {
  /** After the decimal point. */
  readonly digits: number
  /** Where a vertical line goes; null: none. */
  readonly mark: number | null
  /** What the bars show, for those who hear the page. */
  readonly title: string
}

const WIDTH = 900
const ROW = 26
const LABEL_WIDTH = 130
const VALUE_WIDTH = 190

/** Horizontal bars from 0 with whiskers from the lowest to the highest round, as inline SVG. */
export function renderBars(bars: readonly Bar[], { digits, mark, title }: BarsOptions): string {
  const highest = Math.max(...bars.map(({ spread }) => spread.max), mark ?? 0, 1e-9)
  const scale = (WIDTH - LABEL_WIDTH - VALUE_WIDTH) / highest
  const x = (value: number) => (LABEL_WIDTH + Math.max(0, value) * scale).toFixed(1)
  const height = bars.length * ROW + 6
  const rows = bars.map(({ label, spread, isOurs }, i) => {
    const top = i * ROW + 6
    const middle = top + 8
    const [median, min, max] = [spread.median, spread.min, spread.max].map(v => v.toFixed(digits))
    return (
      `<text x="${LABEL_WIDTH - 8}" y="${middle + 4}" text-anchor="end">${escapeHtml(label)}</text>` +
      `<rect x="${LABEL_WIDTH}" y="${top}" width="${(Math.max(0, spread.median) * scale).toFixed(1)}" height="16" rx="2" ` +
      `fill="var(--${isOurs ? 'ours' : 'theirs'})"/>` +
      `<line x1="${x(spread.min)}" x2="${x(spread.max)}" y1="${middle}" y2="${middle}" stroke="var(--whisker)"/>` +
      `<text x="${Number(x(spread.max)) + 8}" y="${middle + 4}">${median} (${min}–${max})</text>`
    )
  })
  const line =
    mark === null
      ? ''
      : `<line x1="${x(mark)}" x2="${x(mark)}" y1="0" y2="${height}" stroke="var(--whisker)" stroke-dasharray="3 3"/>`
  return `<svg viewBox="0 0 ${WIDTH} ${height}" role="img" aria-label="${escapeHtml(title)}"><title>${escapeHtml(title)}</title>${rows.join('')}${line}</svg>`
}
