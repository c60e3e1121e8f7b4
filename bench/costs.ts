import { execFile } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'

/** Programs that measure what a part of Doorman costs a request, by the word of `npm run bench -- WORD`. */
const SCRIPTS: Readonly<Record<string, string>> = {
  binding: '../app/kit/binding-cost.ts',
  admission: '../gateway/admission/admission-cost.ts',
  'metering-cost': '../gateway/metering/metering-cost.ts',
}
const DEADLINE_MS = 120_000

interface Cost {
  /** Microseconds. */
  readonly usPerRequest: Readonly<Record<string, { median: number; mean: number }>>
  /** Of the replay guard, where there is one. */
  readonly bytesPerId?: number
}

/** @returns the table of its steps; null: no such word */
export async function benchCost(word: string): Promise<string | null> {
  const script = Object.hasOwn(SCRIPTS, word) ? SCRIPTS[word] : undefined
  if (script === undefined) return null
  const path = fileURLToPath(new URL(script, import.meta.url))
  const options = { timeout: DEADLINE_MS, killSignal: 'SIGKILL' } as const
  const { stdout } = await promisify(execFile)(process.execPath, [path], options)
  const { usPerRequest, bytesPerId } = JSON.parse(stdout) as Cost
  const rows = Object.entries(usPerRequest).map(
    ([step, { median, mean }]) =>
      `  ${step.padEnd(56)} ${median.toFixed(2).padStart(6)} ${mean.toFixed(2).padStart(8)}\n`,
  )
  const table = `  ${'µs per request'.padEnd(56)} median     mean\n${rows.join('')}`
  if (bytesPerId === undefined) return table
  return `${table}\n  the replay guard keeps ${bytesPerId} bytes for an id\n`
}
