/** What a key may do; each word includes those before it. */
export const SCOPES = ['read', 'operate', 'own'] as const
export type Scope = (typeof SCOPES)[number]

/** Who works on the Registry, as the audit tells it. */
export interface Actor {
  /** Name of the key, or who typed the command. Never the key. */
  readonly name: string
  readonly scope: Scope
  /** null where there is no request. */
  readonly requestId: string | null
}

export function covers(have: Scope, need: Scope): boolean {
  return SCOPES.indexOf(have) >= SCOPES.indexOf(need)
}
