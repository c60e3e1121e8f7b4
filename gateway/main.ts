import { onTermination, runMain } from '../registry/lib/lifecycle.ts'
import { bufferedStdout, makeLog } from '../registry/lib/log.ts'
import { requireSafeRuntime } from '../registry/lib/runtime.ts'
import { readGatewayConfig } from './config.ts'
import { startGateway } from './gateway.ts'

runMain(async () => {
  requireSafeRuntime()
  const { config, warnings } = readGatewayConfig(process.env)
  const log = makeLog('gateway', config.LOG_LEVEL, bufferedStdout())
  for (const warning of warnings) log.warn(`${warning} (refused in production)`)
  const gateway = await startGateway(config, log, error => {
    process.stderr.write(`doorman: ${error.message}\n`)
    process.exit(1)
  })
  log.info({ address: gateway.publicAddress, internal: gateway.internalAddress }, 'listening')
  // The supervisor's deadline is a second later: what is left to do after the drain fits into it.
  onTermination(log, config.DRAIN_TIMEOUT_MS, () =>
    gateway.stop(Math.max(0, config.DRAIN_TIMEOUT_MS - 1000)),
  )
})
