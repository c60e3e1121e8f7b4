import { useId, useLayoutEffect, useRef, useState } from 'preact/hooks'
import { html, type View } from '../lib/html.ts'

export interface MenuItem {
  readonly title: string
  readonly isDangerous?: boolean
  readonly onPick: () => void
}

export interface MenuProps {
  readonly label: string
  /** What the button shows. */
  readonly text: string
  readonly items: readonly MenuItem[]
  readonly isPlain?: boolean
}

/** A button that unfolds further ones; arrows move in it, Escape and a click elsewhere close it. */
export function Menu({ label, text, items, isPlain = false }: MenuProps): View {
  const [isOpen, setIsOpen] = useState(false)
  const root = useRef<HTMLDivElement>(null)
  const id = useId()
  const buttons = () => [...(root.current?.querySelectorAll<HTMLElement>('[role=menuitem]') ?? [])]
  useLayoutEffect(() => {
    if (!isOpen) return
    buttons()[0]?.focus()
    const onElsewhere = (event: Event) => {
      if (!root.current?.contains(event.target as Node)) setIsOpen(false)
    }
    document.addEventListener('pointerdown', onElsewhere)
    document.addEventListener('focusin', onElsewhere)
    return () => {
      document.removeEventListener('pointerdown', onElsewhere)
      document.removeEventListener('focusin', onElsewhere)
    }
  }, [isOpen])
  useLayoutEffect(() => {
    // The item with focus may have gone with what was true before: whoever uses the keyboard would stand nowhere.
    if (isOpen && !root.current?.contains(document.activeElement)) buttons()[0]?.focus()
  }, [items])
  const close = () => {
    setIsOpen(false)
    root.current?.querySelector<HTMLElement>('[aria-haspopup]')?.focus()
  }
  const onKeyDown = (event: KeyboardEvent) => {
    if (!isOpen) return
    const all = buttons()
    const at = all.indexOf(document.activeElement as HTMLElement)
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key]
    if (event.key === 'Escape') close()
    else if (step !== undefined) all[(at + step + all.length) % all.length]?.focus()
    else if (event.key === 'Home') all[0]?.focus()
    else if (event.key === 'End') all.at(-1)?.focus()
    else return
    event.preventDefault()
  }
  const pick = (item: MenuItem) => {
    close()
    item.onPick()
  }
  return html`<div class="menu" ref=${root} onKeyDown=${onKeyDown}>
    <button
      type="button"
      class=${isPlain ? 'plain' : ''}
      aria-haspopup="menu"
      aria-expanded=${isOpen ? 'true' : 'false'}
      aria-controls=${isOpen ? id : undefined}
      aria-label=${label}
      onClick=${() => setIsOpen(!isOpen)}
    >${text}</button>
    ${
      isOpen
        ? html`<div class="menu-items" role="menu" id=${id} aria-label=${label}>
            ${items.map(
              item => html`<button
                key=${item.title}
                type="button"
                role="menuitem"
                tabindex="-1"
                class=${item.isDangerous ? 'plain danger' : 'plain'}
                onClick=${() => pick(item)}
              >${item.title}</button>`,
            )}
          </div>`
        : null
    }
  </div>`
}
