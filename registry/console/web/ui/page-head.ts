import type { ComponentChildren } from 'preact'
import { useEffect, useRef } from 'preact/hooks'
import { html, type View } from '../lib/html.ts'

export interface PageHeadProps {
  readonly title: string
  /** Of the browser's tab, where it is not the title. */
  readonly tab?: string
  readonly aside?: ComponentChildren
  readonly children?: ComponentChildren
}

let isFirstPage = true

/** The head of a page: whoever cannot see it is told by focus that it is another one. */
export function PageHead({ title, tab = title, aside, children }: PageHeadProps): View {
  const heading = useRef<HTMLHeadingElement>(null)
  useEffect(() => {
    if (!isFirstPage) heading.current?.focus({ preventScroll: true })
    isFirstPage = false
  }, [])
  useEffect(() => {
    document.title = `${tab} · Doorman`
  }, [tab])
  return html`<div class="page-head">
    <div class="grow">
      <h1 ref=${heading} tabindex="-1">${title}</h1>
      ${children}
    </div>
    <div class="buttons">${aside}</div>
  </div>`
}
