import { execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'

const COST = fileURLToPath(new URL('../gateway/metering/metering-cost.ts', import.meta.url))
const LOAD = fileURLToPath(new URL('../gateway/metering/metering-load.test.ts', import.meta.url))
const COST_DEADLINE_MS = 120_000

interface Cost {
  /** Microseconds. */
  readonly usPerRequest: Readonly<Record<string, { median: number; mean: number }>>
}

/** `npm run bench -- metering-cost`: what counting adds to a request at the gateway. */
export async function benchMeteringCost(): Promise<string> {
  const options = { timeout: COST_DEADLINE_MS, killSignal: 'SIGKILL' } as const
  const { stdout } = await promisify(execFile)(process.execPath, [COST], options)
  const { usPerRequest } = JSON.parse(stdout) as Cost
  const rows = Object.entries(usPerRequest).map(
    ([step, { median, mean }]) =>
      `  ${step.padEnd(56)} ${median.toFixed(2).padStart(6)} ${mean.toFixed(2).padStart(8)}\n`,
  )
  return `  ${'µs per request'.padEnd(56)} median     mean\n${rows.join('')}`
}

/**
 * `npm run bench -- metering`: the test of the suite with as many requests as asked for. Two gateways of two workers
 * under rolling restarts, kills, a Registry that is cut off and answers of commits that are lost; what is in the
 * Registry is compared with what app and clients have counted.
 *
 * @throws Error where one count differs
 */
export async function benchMetering(requests: number): Promise<void> {
  const child = spawn(process.execPath, [LOAD], {
    env: { ...process.env, METERING_LOAD_REQUESTS: String(requests) },
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  const ended = once(child, 'exit')
  const failed: string[] = []
  for await (const line of createInterface({ input: child.stdout })) {
    const text = line.trim()
    if (/^# (?!Subtest|time|\{)/.test(text)) process.stdout.write(`  ${text.slice(2)}\n`)
    if (text.startsWith('# Subtest')) process.stdout.write(`${text.slice(11)}\n`)
    if (text.startsWith('not ok')) failed.push(text)
  }
  const [code] = await ended
  if (code !== 0 || failed.length > 0) throw new Error(`counts differ: ${failed.join('; ')}`)
}
