import type { RunItem } from '../../../admin/migration-runs.ts'
import { count, many, rate, span } from '../lib/format.ts'
import { h, html, type View } from '../lib/html.ts'
import { isUnderWay } from '../lib/run.ts'
import { Badge } from '../ui/status.ts'

const TONES: Readonly<Record<RunItem['state'], string>> = {
  starting: 'info',
  running: 'info',
  cancelling: 'warn',
  done: 'ok',
  stopped: 'bad',
  cancelled: 'off',
  interrupted: 'bad',
}

export function RunState({ run }: { run: RunItem }): View {
  const { state, failed } = run
  if (state === 'done' && failed > 0) return h(Badge, { text: 'done, with failures', tone: 'warn' })
  return h(Badge, { text: state, tone: TONES[state] ?? 'off' })
}

/** How far it is: what was done, what failed, what was left out, what is to come. */
export function RunProgress({ run }: { run: RunItem }): View {
  const { tenants, ok, failed, skipped } = run
  const done = ok + failed + skipped
  const all = Math.max(tenants ?? 0, done)
  const wide = (n: number) => (all === 0 ? 0 : Math.round((n / all) * 10_000) / 100)
  const percentDone = Math.floor(wide(done))
  const text =
    tenants === null
      ? 'The tenants are being chosen.'
      : `${count(done)} of ${many(tenants, 'tenant')}`
  return html`<div class="card progress">
    <div class="section-head">
      <p>${h(RunState, { run })} <strong>${text}</strong></p>
      <p class="hint">${paceOf(run)}</p>
    </div>
    <div
      role="progressbar"
      aria-label="Progress of the run"
      aria-valuemin="0"
      aria-valuemax="100"
      aria-valuenow=${tenants === null ? undefined : percentDone}
      aria-valuetext=${`${text}, ${count(failed)} failed`}
    >
      <svg viewBox="0 0 100 8" preserveAspectRatio="none" aria-hidden="true">
        <rect class="track" width="100" height="8" />
        <rect class="done" width=${wide(ok)} height="8" />
        <rect class="skipped" x=${wide(ok)} width=${wide(skipped)} height="8" />
        <rect class="failed" x=${wide(ok + skipped)} width=${wide(failed)} height="8" />
      </svg>
    </div>
    <ul class="legend">
      <li class="done">${count(ok)} done</li>
      <li class="failed">${count(failed)} failed</li>
      <li class="skipped">${count(skipped)} skipped</li>
      ${run.left === null ? null : html`<li class="left">${count(run.left)} left</li>`}
    </ul>
  </div>`
}

function paceOf(run: RunItem): string {
  const { wave, rate_per_s: perS, eta_s: etaS } = run
  if (!isUnderWay(run)) return ''
  return [
    wave === null ? '' : `wave: ${wave}`,
    perS === null ? '' : `${rate(perS)} tenants/s`,
    etaS === null ? '' : `about ${span(etaS * 1000)} more`,
  ]
    .filter(Boolean)
    .join(' · ')
}
