import { createContext } from 'preact'
import { useContext } from 'preact/hooks'
import type { Scope } from '../../../admin/actor.ts'

/** Whose key the session is of, and what it may do. */
export interface Holder {
  readonly name: string
  readonly scope: Scope
}

export const HolderContext = createContext<Holder>({ name: '', scope: 'read' })

/** Whether actions are shown at all; the API decides in any case. */
export function useMay(): { readonly operate: boolean; readonly own: boolean } {
  const { scope } = useContext(HolderContext)
  return { operate: scope !== 'read', own: scope === 'own' }
}

export function useHolder(): Holder {
  return useContext(HolderContext)
}
