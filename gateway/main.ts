import cluster, { type Worker } from 'node:cluster'
import { parseArgs } from 'node:util'
import { runMain } from '../registry/lib/lifecycle.ts'
import { bufferedStdout, makeLog, sharedStdout } from '../registry/lib/log.ts'
import { requireSafeRuntime } from '../registry/lib/runtime.ts'
import { readGatewayConfig } from './config.ts'

/*
 * Each part loads what it runs and no more: a worker no control plane, a primary no data plane. All of it is loaded before
 * anything listens, for a module that is evaluated later holds up all requests meanwhile.
 */
runMain(async () => {
  const { worker } = cluster
  if (worker !== undefined) return startWorker(worker)
  requireSafeRuntime()
  const { config, warnings } = readGatewayConfig(environment())
  const isAlone = config.GATEWAY_WORKERS === 1
  const log = isAlone
    ? makeLog('gateway', config.LOG_LEVEL, bufferedStdout())
    : makeLog('gateway', config.LOG_LEVEL, sharedStdout()).child({ primary: true })
  for (const warning of warnings) log.warn(`${warning} (refused in production)`)
  if (isAlone) {
    const { runAlone } = await import('./run-alone.ts')
    return runAlone(config, log, process.env, onFatal)
  }
  const { runPrimary } = await import('./run-primary.ts')
  return runPrimary(config, log, process.env, onFatal)
})

/** The primary has found the environment valid; a file that it names may be another since. */
async function startWorker(worker: Worker): Promise<void> {
  const { giveUp, runWorker } = await import('./cluster-worker.ts')
  try {
    const { config } = readGatewayConfig(environment())
    const log = makeLog('gateway', config.LOG_LEVEL, sharedStdout())
    await runWorker(worker, config, log.child({ worker: worker.id }))
  } catch (error) {
    await giveUp(error)
  }
}

/** The environment, with what the command line says in its place. */
function environment(): NodeJS.ProcessEnv {
  const { values } = parseArgs({ options: { workers: { type: 'string' } } })
  const { workers } = values
  return workers === undefined ? process.env : { ...process.env, GATEWAY_WORKERS: workers }
}

function onFatal(error: Error): void {
  process.stderr.write(`doorman: ${error.message}\n`)
  process.exit(1)
}
