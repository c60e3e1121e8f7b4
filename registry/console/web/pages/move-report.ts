import type { Moved } from '../../../admin/move.ts'
import type { MoveEvents } from '../../../admin/move-stream.ts'
import type { MoveStep } from '../../../move/move.ts'
import { count, ms } from '../lib/format.ts'
import { h, html, type View } from '../lib/html.ts'
import { Dialog } from '../ui/dialog.ts'
import { Facts } from '../ui/facts.ts'

/** The steps that were told of so far; the last is under way. */
export type Told = readonly MoveEvents['step'][]

/** In their order. */
const STEP_TEXTS: Readonly<Record<Exclude<MoveStep, 'replicate'>, string>> = {
  preflight: 'Look at both databases',
  rehearse: 'Rehearse the schema',
  hold: 'Have its requests wait',
  drain: 'Let requests under way end',
  lock: 'Lock its tables',
  copy: 'Copy the rows',
  verify: 'Compare both',
  switch: 'Switch to the new one',
  fence: 'Close the old one to writes',
  release: 'Let requests go on',
}

export function MoveSteps({ told }: { told: Told }): View {
  const names = Object.keys(STEP_TEXTS) as (keyof typeof STEP_TEXTS)[]
  const at = names.indexOf(told.at(-1)?.step as keyof typeof STEP_TEXTS)
  return html`<ol class="steps" aria-live="polite">
    ${names.map((name, i) => {
      const is = i < at ? 'done' : i === at ? 'running' : 'waiting'
      const text = told.findLast(({ step }) => step === name)?.text
      return html`<li key=${name} class=${is}>${STEP_TEXTS[name]} <span class="hint">${is}${text === undefined ? '' : ` · ${text}`}</span></li>`
    })}
  </ol>`
}

export interface MoveReportProps {
  readonly moved: Moved
  readonly tenantKey: string
  readonly onClose: () => void
}

/** What an operator may need afterwards stands here alone: how the old database is opened again. */
export function MoveReport({ moved, tenantKey, onClose }: MoveReportProps): View {
  const { tables, rows, held_ms: heldMs, notes, undo, fence_problem: problem } = moved
  return h(Dialog, {
    title: `${tenantKey} has moved`,
    isWide: true,
    onClose,
    children: html`<div class="dialog-body">
      ${problem === null ? null : html`<p class="failure" role="alert">The old database still takes writes: ${problem}</p>`}
      ${h(Facts, {
        facts: [
          ['Tables', count(tables)],
          ['Rows', count(rows)],
          ['Requests waited', `${ms(heldMs)} at most`],
        ],
      })}
      ${notes.length === 0 ? null : html`<ul class="problems">${notes.map(note => html`<li key=${note}>${note}</li>`)}</ul>`}
      ${
        undo.length === 0
          ? null
          : html`<details>
              <summary>To open the old database again</summary>
              <pre tabindex="0" aria-label="Statements that open the old database again"><code>${undo.join(';\n')};</code></pre>
            </details>`
      }
      <div class="buttons"><button type="button" class="primary" onClick=${onClose}>Close</button></div>
    </div>`,
  })
}
