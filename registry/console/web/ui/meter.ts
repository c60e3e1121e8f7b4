import { count } from '../lib/format.ts'
import { h, html, type View } from '../lib/html.ts'
import type { Tone } from './figures.ts'

export interface MeterProps {
  readonly used: number
  /** 0: there is no bound, and no bar. */
  readonly max: number
  readonly format?: (value: number) => string
  /** Neither a part of a budget nor near its end: nothing to warn of. */
  readonly isPlain?: boolean
}

/** Shares of a budget from which it is marked. */
const WARN_SHARE = 0.8
const BAD_SHARE = 0.95

/** So much of so much; the bar says nothing that the figures do not. */
export function Meter({ used, max, format = count, isPlain = false }: MeterProps): View {
  return html`<span class=${`meter ${isPlain ? '' : fillTone(used, max)}`}>
    <span>${format(used)}${max > 0 ? html`<span class="of"> / ${format(max)}</span>` : null}</span>
    ${max > 0 ? h(Bar, { share: used / max }) : null}
  </span>`
}

export function Bar({ share }: { share: number }): View {
  const width = Math.round(Math.min(1, Math.max(0, share)) * 1000) / 10
  return html`<svg class="bar-line" viewBox="0 0 100 4" preserveAspectRatio="none" aria-hidden="true">
    <rect class="track" width="100" height="4" />
    <rect class="fill" width=${width} height="4" />
  </svg>`
}

export function fillTone(used: number, max: number): Tone {
  if (max <= 0 || used / max < WARN_SHARE) return ''
  return used / max < BAD_SHARE ? 'warn' : 'bad'
}
