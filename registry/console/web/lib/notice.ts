import { useEffect, useState } from 'preact/hooks'
import { h, html, type View } from './html.ts'

export interface Notice {
  readonly id: number
  readonly text: string
  readonly isBad: boolean
}

const SHOWN_MS = 8000
const NOTICES_MAX = 4

let notices: readonly Notice[] = []
let nextId = 1
const listeners = new Set<(now: readonly Notice[]) => void>()

/** Says what happened, to the eye and to a screen reader. */
export function notify(text: string, { isBad = false } = {}): void {
  const id = nextId++
  set([...notices, { id, text, isBad }].slice(-NOTICES_MAX))
  setTimeout(() => dismiss(id), SHOWN_MS)
}

export function Notices(): View {
  const [shown, setShown] = useState(notices)
  useEffect(() => {
    listeners.add(setShown)
    return () => void listeners.delete(setShown)
  }, [])
  return html`<div class="notices" role="status" aria-live="polite">
    ${shown.map(notice => h(OneNotice, { key: notice.id, notice }))}
  </div>`
}

function OneNotice({ notice }: { notice: Notice }): View {
  return html`<div class=${notice.isBad ? 'notice bad' : 'notice'}>
    <span>${notice.text}</span>
    <button type="button" class="plain" aria-label="Dismiss" onClick=${() => dismiss(notice.id)}>✕</button>
  </div>`
}

function dismiss(id: number): void {
  set(notices.filter(notice => notice.id !== id))
}

function set(next: readonly Notice[]): void {
  notices = next
  for (const listener of listeners) listener(next)
}
