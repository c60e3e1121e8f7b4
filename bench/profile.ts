import { readdir, readFile, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { type CpuProfile, selfTimes } from './lib/profile.ts'

const ROWS = 30

/** The largest of the profiles that V8 left in `dir`, as text; the files are removed. */
export async function renderProfile(dir: string): Promise<string> {
  const files = (await readdir(dir)).map(name => join(dir, name))
  const profiles = await Promise.all(
    files.map(async file => JSON.parse(await readFile(file, 'utf8')) as CpuProfile),
  )
  await Promise.all(files.map(file => rm(file)))
  const [largest] = profiles.sort((a, b) => b.samples.length - a.samples.length)
  if (largest === undefined) return '  no profile was written\n'
  return selfTimes(largest)
    .slice(0, ROWS)
    .map(({ name, share }) => `  ${(share * 100).toFixed(1).padStart(5)} %  ${name}\n`)
    .join('')
}
