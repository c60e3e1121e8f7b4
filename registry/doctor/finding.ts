import type { AdminDeps } from '../admin/deps.ts'

/** One line of what `doctor` says. */
export interface Finding {
  readonly check: string
  readonly level: 'ok' | 'warn' | 'fail'
  readonly text: string
  /** What to do; null where there is nothing. */
  readonly todo: string | null
}

/** What of the environment is looked at; nothing that is absent is a fault, for it may be of another process. */
export interface Surroundings {
  readonly registryUrl: string
  readonly registryCa: string | undefined
  /** Private JWK as text. */
  readonly signingKey: string | undefined
  /** JWKS as text. */
  readonly publicKeys: string | undefined
  readonly contentKeys: readonly string[]
  readonly upstreams: readonly string[]
  readonly healthPath: string
  /** Replicas that serve one tenant. */
  readonly spread: number
  /** Connections of a tenant on each, where its row says nothing. */
  readonly poolMax: number
}

export interface Patient {
  readonly deps: AdminDeps
  readonly around: Surroundings
  /** Leaves tenants' databases alone. */
  readonly isQuick: boolean
}

export function ok(check: string, text: string): Finding {
  return { check, level: 'ok', text, todo: null }
}

export function warn(check: string, text: string, todo: string): Finding {
  return { check, level: 'warn', text, todo }
}

export function fail(check: string, text: string, todo: string): Finding {
  return { check, level: 'fail', text, todo }
}

const NAMES_MAX = 10

/** The first of many names. */
export function some(names: readonly string[]): string {
  const more = names.length - NAMES_MAX
  return names.slice(0, NAMES_MAX).join(', ') + (more > 0 ? ` and ${more} more` : '')
}
