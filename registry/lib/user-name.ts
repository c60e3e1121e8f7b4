import { userInfo } from 'node:os'

/** Who typed the command. A container's user may have no name. */
export function userName(): string {
  try {
    return userInfo().username
  } catch {
    return `uid ${process.getuid?.() ?? 'unknown'}`
  }
}
