import { randomUUID } from 'node:crypto'

/** The gateway's id where it is sane, else one of our own. */
export function requestIdOf(given: string | string[] | undefined): string {
  return typeof given === 'string' && /^[\w.:-]{1,128}$/.test(given) ? given : randomUUID()
}
