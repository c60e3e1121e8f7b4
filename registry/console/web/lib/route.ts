import { type ComponentChildren, createContext } from 'preact'
import { useContext, useEffect, useState } from 'preact/hooks'
import { h, html, type View } from './html.ts'

const BASE = '/admin'

/** Where the page is: parts of the path below /admin, and the query. */
export interface Place {
  readonly parts: readonly string[]
  readonly query: URLSearchParams
}

const PlaceContext = createContext<Place>({ parts: [], query: new URLSearchParams() })

export function usePlace(): Place {
  return useContext(PlaceContext)
}

/** Keeps what is below it at the address that the browser shows. */
export function Router({ children }: { children: ComponentChildren }): View {
  const [place, setPlace] = useState(readPlace)
  useEffect(() => {
    const onMove = () => setPlace(readPlace())
    addEventListener('popstate', onMove)
    return () => removeEventListener('popstate', onMove)
  }, [])
  return h(PlaceContext.Provider, { value: place, children })
}

/**
 * @param to below /admin, with its query
 * @param state kept with this place in the browser's history
 */
export function go(
  to: string,
  { isReplaced = false, state = null }: { isReplaced?: boolean; state?: string | null } = {},
): void {
  const url = `${BASE}${to}`
  if (isReplaced) history.replaceState(state, '', url)
  else history.pushState(state, '', url)
  dispatchEvent(new PopStateEvent('popstate'))
  if (!isReplaced) scrollTo(0, 0)
}

export interface LinkProps {
  readonly to: string
  readonly class?: string
  readonly isCurrent?: boolean
  readonly title?: string
  readonly children: ComponentChildren
}

/** A link within the console; a click with a key held does what it does in the browser. */
export function Link({ to, isCurrent = false, children, ...rest }: LinkProps): View {
  const onClick = (event: MouseEvent) => {
    if (event.button !== 0 || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey)
      return
    event.preventDefault()
    go(to)
  }
  return html`<a
    ...${rest}
    href=${`${BASE}${to}`}
    onClick=${onClick}
    aria-current=${isCurrent ? 'page' : undefined}
    >${children}</a
  >`
}

function readPlace(): Place {
  const { pathname, search } = location
  const path = pathname.startsWith(BASE) ? pathname.slice(BASE.length) : ''
  return {
    parts: path.split('/').filter(Boolean).map(decoded),
    query: new URLSearchParams(search),
  }
}

function decoded(part: string): string {
  try {
    return decodeURIComponent(part)
  } catch {
    return part
  }
}
