import { readFile } from 'node:fs/promises'

/** PEM text of `path`, or undefined where none is set. @throws Error naming `variable` */
export async function readCa(
  path: string | undefined,
  variable: string,
): Promise<string | undefined> {
  if (path === undefined) return undefined
  try {
    return await readFile(path, 'utf8')
  } catch (error) {
    throw new Error(`${variable} cannot be read: ${(error as NodeJS.ErrnoException).code}`)
  }
}
