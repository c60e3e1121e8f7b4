import { h, html, type View } from '../lib/html.ts'
import { Sparkline, type SparklineProps } from './sparkline.ts'

export interface TrendProps extends SparklineProps {
  readonly title: string
  readonly figure: string
  /** How long ago the first point is. */
  readonly since: string
}

/** A figure of now with the line that led to it. */
export function Trend({ title, figure, since, ...spark }: TrendProps): View {
  return html`<div class=${`trend ${spark.tone ?? ''}`}>
    <div class="trend-head"><span>${title}</span><strong>${figure}</strong></div>
    ${h(Sparkline, spark)}
    <div class="ticks" aria-hidden="true"><span>${since} ago</span><span>now</span></div>
  </div>`
}
