import { execFile } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'

const COST = fileURLToPath(new URL('../app/kit/binding-cost.ts', import.meta.url))
const DEADLINE_MS = 120_000

interface Cost {
  /** Microseconds. */
  readonly usPerRequest: Readonly<Record<string, { median: number; mean: number }>>
  readonly bytesPerId: number
}

/** `npm run bench -- binding`: what a request's binding to its tenant context costs each side. */
export async function benchBinding(): Promise<string> {
  const options = { timeout: DEADLINE_MS, killSignal: 'SIGKILL' } as const
  const { stdout } = await promisify(execFile)(process.execPath, [COST], options)
  const { usPerRequest, bytesPerId } = JSON.parse(stdout) as Cost
  const rows = Object.entries(usPerRequest).map(
    ([step, { median, mean }]) =>
      `  ${step.padEnd(56)} ${median.toFixed(2).padStart(6)} ${mean.toFixed(2).padStart(8)}\n`,
  )
  const head = `  ${'µs per request'.padEnd(56)} median     mean\n`
  return `${head}${rows.join('')}\n  the replay guard keeps ${bytesPerId} bytes for an id\n`
}
