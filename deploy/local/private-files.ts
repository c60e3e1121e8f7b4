import { randomBytes } from 'node:crypto'
import { link, mkdir, open, readFile, rename, rm } from 'node:fs/promises'
import { dirname } from 'node:path'
import { commandOf } from './postgres-pid-file.ts'

/** The JSON kept in `file`, or null where there is none. */
export async function readJson<T>(file: string): Promise<T | null> {
  try {
    return JSON.parse(await readFile(file, 'utf8')) as T
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null
    if (error instanceof SyntaxError) throw new Error(`${file} is damaged; restore or remove it`)
    throw error
  }
}

/** Writes the whole file or nothing, readable by us alone, in a folder that is ours alone. */
export async function writeJson(file: string, value: unknown): Promise<void> {
  await mkdir(dirname(file), { recursive: true, mode: 0o700 })
  const partial = `${file}.${randomBytes(6).toString('hex')}`
  const handle = await open(partial, 'wx', 0o600)
  try {
    await handle.writeFile(`${JSON.stringify(value, null, 2)}\n`)
    await handle.sync()
  } finally {
    await handle.close()
  }
  await rename(partial, file)
}

/**
 * Takes `file` as a lock for this process and returns what gives it back. The lock of a process that
 * was killed is taken over.
 *
 * @throws Error naming the process that holds it
 */
export async function takeLock(file: string, command: string): Promise<() => Promise<void>> {
  await mkdir(dirname(file), { recursive: true, mode: 0o700 })
  const own = `${file}.${process.pid}`
  await rm(own, { force: true })
  const handle = await open(own, 'wx', 0o600)
  await handle.writeFile(`${process.pid}\n`)
  await handle.close()
  try {
    for (let attempt = 0; attempt < 3; attempt++) {
      try {
        // A link appears with its content, so that no one reads a lock without a number in it.
        await link(own, file)
        return () => rm(file, { force: true })
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error
      }
      const holder = Number(await readFile(file, 'utf8').catch(() => ''))
      if (holder !== process.pid && (await commandOf(holder)).includes(command)) {
        throw new Error(`Already running on ${dirname(file)} (process ${holder})`)
      }
      await rm(file, { force: true })
    }
    throw new Error(`Cannot take ${file}`)
  } finally {
    await rm(own, { force: true })
  }
}
