import { onTermination } from '../registry/lib/lifecycle.ts'
import type { Log } from '../registry/lib/log.ts'
import { openAdmin } from './admin.ts'
import { Primary } from './cluster-primary.ts'
import type { GatewayConfig } from './config.ts'
import { EXIT_USAGE_LOST } from './exit-codes.ts'
import { startInternal } from './internal.ts'

/**
 * The control plane, and workers for the data plane, none of which is loaded here.
 *
 * @param env handed on to processes that the control plane starts
 */
export async function runPrimary(
  config: GatewayConfig,
  log: Log,
  env: NodeJS.ProcessEnv,
  onFatal: (error: Error) => void,
): Promise<void> {
  const primary = new Primary({
    workers: config.GATEWAY_WORKERS,
    port: config.PORT,
    drainTimeoutMs: config.DRAIN_TIMEOUT_MS,
    drainNoticeMs: config.DRAIN_NOTICE_MS,
    log,
    onFatal,
  })
  const admin = await openAdmin(config, log, env)
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
