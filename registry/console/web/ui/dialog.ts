import type { ComponentChildren } from 'preact'
import { useId, useLayoutEffect, useRef } from 'preact/hooks'
import { html, type View } from '../lib/html.ts'

export interface DialogProps {
  readonly title: string
  readonly isWide?: boolean
  /** It stays, whatever is pressed: something goes on in it that is ended by a button alone. */
  readonly isHeld?: boolean
  readonly onClose: () => void
  readonly children: ComponentChildren
}

/** A modal dialog: what is behind it cannot be reached, Escape closes it, and focus goes back to where it was. */
export function Dialog(props: DialogProps): View {
  const { title, isWide = false, isHeld = false, children } = props
  const onClose = () => {
    if (!isHeld) props.onClose()
  }
  const element = useRef<HTMLDialogElement>(null)
  const titleId = useId()
  useLayoutEffect(() => {
    const before = document.activeElement
    element.current?.showModal()
    return () => {
      element.current?.close()
      if (before instanceof HTMLElement && before.isConnected) before.focus()
    }
  }, [])
  const onCancel = (event: Event) => {
    event.preventDefault()
    onClose()
  }
  /** Chrome closes it at the second Escape, whatever the first one's listener says; whether it goes is for its owner. */
  const onGone = () => {
    if (element.current === null) return
    element.current.showModal()
    onClose()
  }
  return html`<dialog ref=${element} class=${isWide ? 'wide' : ''} aria-labelledby=${titleId} closedby=${isHeld ? 'none' : undefined} onCancel=${onCancel} onClose=${onGone}>
    <header>
      <h2 id=${titleId}>${title}</h2>
      <button type="button" class="plain" aria-label="Close" disabled=${isHeld} onClick=${onClose}>✕</button>
    </header>
    ${children}
  </dialog>`
}
