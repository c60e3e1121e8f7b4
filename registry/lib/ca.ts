import { readFileSync } from 'node:fs'

/**
 * The CA of a variable such as DB_SSL_CA, in PEM: the value itself where it begins with `-----BEGIN`, else
 * the text of the file that it names. The same rule in every process.
 *
 * @throws Error without the variable's name
 */
export function readPem(value: string): string {
  const text = value.trimStart().startsWith('-----BEGIN') ? value : readText(value)
  if (text.includes('-----BEGIN CERTIFICATE-----')) return text
  throw new Error('must be a certificate in PEM, or the path of one')
}

/** `readPem` for what is not read by a schema. @throws Error naming `variable` */
export async function readCa(
  value: string | undefined,
  variable: string,
): Promise<string | undefined> {
  if (value === undefined) return undefined
  try {
    return readPem(value)
  } catch (error) {
    throw new Error(`${variable} ${(error as Error).message}`)
  }
}

function readText(path: string): string {
  try {
    return readFileSync(path, 'utf8')
  } catch (error) {
    throw new Error(`cannot be read: ${(error as NodeJS.ErrnoException).code}`)
  }
}
