import { expose } from '../registry/lib/exposition.ts'
import { onTermination } from '../registry/lib/lifecycle.ts'
import type { Log } from '../registry/lib/log.ts'
import { openAdmin } from './admin.ts'
import { IDLE_GRACE_MS } from './cluster-worker.ts'
import type { GatewayConfig } from './config.ts'
import { EXIT_USAGE_LOST } from './exit-codes.ts'
import { startGateway } from './gateway.ts'
import { startInternal } from './internal.ts'

/**
 * Data plane and control plane in one process.
 *
 * @param env handed on to processes that the control plane starts
 */
export async function runAlone(
  config: GatewayConfig,
  log: Log,
  env: NodeJS.ProcessEnv,
  onFatal: (error: Error) => void,
): Promise<void> {
  const gateway = await startGateway(config, log, { onFatal })
  const admin = await openAdmin(config, log, env)
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
