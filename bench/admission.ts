import { execFile } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'

const COST = fileURLToPath(new URL('../gateway/admission/admission-cost.ts', import.meta.url))
const DEADLINE_MS = 120_000

interface Cost {
  /** Microseconds. */
  readonly usPerRequest: Readonly<Record<string, { median: number; mean: number }>>
}

/** `npm run bench -- admission`: what the limits of tenants cost a request at the gateway. */
export async function benchAdmission(): Promise<string> {
  const options = { timeout: DEADLINE_MS, killSignal: 'SIGKILL' } as const
  const { stdout } = await promisify(execFile)(process.execPath, [COST], options)
  const { usPerRequest } = JSON.parse(stdout) as Cost
  const rows = Object.entries(usPerRequest).map(
    ([step, { median, mean }]) =>
      `  ${step.padEnd(56)} ${median.toFixed(2).padStart(6)} ${mean.toFixed(2).padStart(8)}\n`,
  )
  return `  ${'µs per request'.padEnd(56)} median     mean\n${rows.join('')}`
}
