import { fileURLToPath } from 'node:url'
import { startEmbedded } from './embedded.ts'
import { startExternal } from './external.ts'
import { HELP, readOptions } from './options.ts'

await main()

/**
 * `npm start`. Every process started here also ends where this one is killed (guard.ts), so a second
 * Ctrl-C may simply leave.
 */
async function main(): Promise<void> {
  const print = (text: string) => process.stdout.write(`${text}\n`)
  const root = fileURLToPath(new URL('../..', import.meta.url))
  const stops: (() => Promise<void>)[] = []
  const onStarted = (stop: () => Promise<void>) => {
    stops.unshift(stop)
  }
  const interrupted = new AbortController()
  const { signal } = interrupted
  const onSignal = () => {
    if (signal.aborted) process.exit(1)
    print('\nStopping (Ctrl-C again: at once)')
    interrupted.abort()
  }
  for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(name, onSignal)
  // The reader of our output may be gone ("npm start | head"); that must not keep us from stopping.
  process.stdout.on('error', () => {})

  let failure: unknown = null
  try {
    const options = readOptions(process.argv.slice(2), process.env)
    if (options.isHelp) {
      print(HELP)
      return
    }
    const common = { root, env: process.env, signal, print, onStarted }
    const { died } = await (process.env.TENANT_REGISTRY_DB_URL
      ? startExternal(common)
      : startEmbedded({ ...common, options }))
    const text = await Promise.race([died, untilAborted(signal)])
    if (text !== null) throw new Error(text)
  } catch (error) {
    if (!signal.aborted) failure = error
  }
  for (const stop of stops) {
    await stop().catch(error => {
      failure ??= error
    })
  }
  if (failure !== null) {
    process.stderr.write(`doorman: ${failure instanceof Error ? failure.message : failure}\n`)
  }
  process.exit(failure === null ? 0 : 1)
}

function untilAborted(signal: AbortSignal): Promise<null> {
  return new Promise(resolve => {
    if (signal.aborted) resolve(null)
    signal.addEventListener('abort', () => resolve(null), { once: true })
  })
}
