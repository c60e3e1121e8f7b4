import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'

const LOAD = fileURLToPath(new URL('../gateway/metering/metering-load.test.ts', import.meta.url))

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
