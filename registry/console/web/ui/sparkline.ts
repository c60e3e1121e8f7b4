import { html, type View } from '../lib/html.ts'

export interface SparklineProps {
  /** The oldest first; null: nothing was measured. */
  readonly values: readonly (number | null)[]
  readonly tone?: 'accent' | 'bad' | 'warn'
  /** The least that the full height stands for, so that noise near zero stays small. */
  readonly floor?: number
  /** For a screen reader; empty: the figure beside it says it. */
  readonly label?: string
}

const WIDTH = 72
const HEIGHT = 20

/** A line of a few points, without axes. */
export function Sparkline({
  values,
  tone = 'accent',
  floor = 0,
  label = '',
}: SparklineProps): View {
  const most = Math.max(0, ...values.map(value => value ?? 0))
  const top = Math.max(floor, most) || 1
  const step = WIDTH / Math.max(1, values.length - 1)
  const at = (value: number, i: number) =>
    `${round(i * step)},${round(HEIGHT - 1 - (value / top) * (HEIGHT - 2))}`
  const runs = runsOf(values)
  const lines = runs.map(run => `M${run.map(([i, value]) => at(value, i)).join('L')}`).join('')
  const areas = runs
    .filter(run => run.length > 1)
    .map(run => {
      const [first = [0, 0]] = run
      const last = run.at(-1) ?? first
      const line = run.map(([i, value]) => at(value, i)).join('L')
      return `M${round(first[0] * step)},${HEIGHT}L${line}L${round(last[0] * step)},${HEIGHT}Z`
    })
    .join('')
  const named = label === '' ? { 'aria-hidden': 'true' } : { role: 'img', 'aria-label': label }
  return html`<svg class=${most === 0 ? 'spark flat' : `spark ${tone}`} viewBox=${`0 0 ${WIDTH} ${HEIGHT}`} preserveAspectRatio="none" ...${named}>
    <path class="area" d=${areas} />
    <path class="line" d=${lines} vector-effect="non-scaling-stroke" />
  </svg>`
}

/** Stretches without a gap, as [index, value]. */
function runsOf(values: readonly (number | null)[]): [number, number][][] {
  const runs: [number, number][][] = []
  let run: [number, number][] = []
  for (const [i, value] of values.entries()) {
    if (value !== null) run.push([i, value])
    if (value === null || i === values.length - 1) {
      if (run.length > 0) runs.push(run)
      run = []
    }
  }
  return runs
}

function round(n: number): number {
  return Math.round(n * 10) / 10
}
