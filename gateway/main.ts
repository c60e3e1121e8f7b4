import cluster, { type Worker } from 'node:cluster'
import { parseArgs } from 'node:util'
import { expose } from '../registry/lib/exposition.ts'
import { onTermination, runMain } from '../registry/lib/lifecycle.ts'
import { bufferedStdout, type Log, makeLog, sharedStdout } from '../registry/lib/log.ts'
import { requireSafeRuntime } from '../registry/lib/runtime.ts'
import { openAdmin } from './admin.ts'
import { Primary } from './cluster-primary.ts'
import { giveUp, IDLE_GRACE_MS, runWorker } from './cluster-worker.ts'
import { type GatewayConfig, readGatewayConfig } from './config.ts'
import { EXIT_USAGE_LOST } from './exit-codes.ts'
import { startGateway } from './gateway.ts'
import { startInternal } from './internal.ts'

runMain(async () => {
  const { worker } = cluster
  if (worker !== undefined) return startWorker(worker).catch(giveUp)
  requireSafeRuntime()
  const { config, warnings } = readGatewayConfig(environment())
  const isAlone = config.GATEWAY_WORKERS === 1
  const log = isAlone
    ? makeLog('gateway', config.LOG_LEVEL, bufferedStdout())
    : makeLog('gateway', config.LOG_LEVEL, sharedStdout()).child({ primary: true })
  for (const warning of warnings) log.warn(`${warning} (refused in production)`)
  await (isAlone ? runAlone(config, log) : runPrimary(config, log))
})

/** The primary has found the environment valid; a file that it names may be another since. */
async function startWorker(worker: Worker): Promise<void> {
  const { config } = readGatewayConfig(environment())
  const log = makeLog('gateway', config.LOG_LEVEL, sharedStdout())
  await runWorker(worker, config, log.child({ worker: worker.id }))
}

/** The environment, with what the command line says in its place. */
function environment(): NodeJS.ProcessEnv {
  const { values } = parseArgs({ options: { workers: { type: 'string' } } })
  const { workers } = values
  return workers === undefined ? process.env : { ...process.env, GATEWAY_WORKERS: workers }
}

async function runAlone(config: GatewayConfig, log: Log): Promise<void> {
  const gateway = await startGateway(config, log, { onFatal })
  const admin = await openAdmin(config, log, process.env)
  const internal = await startInternal(
    {
      metrics: async accept => expose(await gateway.metrics.getMetricsAsJSON(), accept),
      whyNotReady: gateway.whyNotReady,
    },
    admin,
    config.ADMIN_PORT,
    config.ADMIN_HOST,
  )
  log.info({ address: gateway.publicAddress, internal: internal.address }, 'listening')
  // Without TLS there is nothing to read again, and the signal ends the process as ever.
  if (config.TLS_CERT_FILE !== undefined) {
    process.on('SIGHUP', () => void gateway.reloadCertificates())
  }
  // The supervisor's deadline is a second later: what is left to do after the drain fits into it.
  onTermination(log, config.DRAIN_TIMEOUT_MS, async () => {
    admin.drain()
    const isUsageKept = await gateway.stop(Math.max(0, config.DRAIN_TIMEOUT_MS - 1000), {
      noticeMs: config.DRAIN_NOTICE_MS,
      idleGraceMs: IDLE_GRACE_MS,
    })
    await internal.close()
    return isUsageKept ? 0 : EXIT_USAGE_LOST
  })
}

async function runPrimary(config: GatewayConfig, log: Log): Promise<void> {
  const primary = new Primary({
    workers: config.GATEWAY_WORKERS,
    port: config.PORT,
    drainTimeoutMs: config.DRAIN_TIMEOUT_MS,
    drainNoticeMs: config.DRAIN_NOTICE_MS,
    log,
    onFatal,
  })
  const admin = await openAdmin(config, log, process.env)
  const internal = await startInternal(primary, admin, config.ADMIN_PORT, config.ADMIN_HOST)
  let isStopping = false
  onTermination(log, config.DRAIN_TIMEOUT_MS, async () => {
    isStopping = true
    admin.drain()
    const isUsageKept = await primary.stop()
    await internal.close()
    return isUsageKept ? 0 : EXIT_USAGE_LOST
  })
  // After a crash of this process the workers drain by themselves.
  process.on('exit', code => {
    if (isStopping || code === 1) primary.killAll()
  })
  process.on('SIGHUP', () => {
    primary.roll().catch(error => log.error({ err: error }, 'rolling restart failed'))
  })
  const address = await primary.start()
  log.info({ address, internal: internal.address, workers: config.GATEWAY_WORKERS }, 'listening')
}

function onFatal(error: Error): void {
  process.stderr.write(`doorman: ${error.message}\n`)
  process.exit(1)
}
