import htm from 'htm'
import { type ComponentType, h as create, type VNode } from 'preact'

export type View = VNode

/**
 * Markup as a template. What is put in is text or an attribute, never markup, so that nothing that a tenant or an
 * operator has written becomes an element. Components are put in by `h()`, by which their props are checked.
 */
export const html = htm.bind(create) as (
  strings: TemplateStringsArray,
  ...values: readonly unknown[]
) => View

/** A component with its props, children among them. */
export function h<P extends object>(
  component: ((props: P) => unknown) | ComponentType<P>,
  props: NoInfer<P> & { readonly key?: string | number },
): View {
  return create(component as ComponentType<object>, props) as View
}
