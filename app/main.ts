import { once } from 'node:events'
import type { Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'
import { withDeadline } from '../registry/lib/deadline.ts'
import { onTermination, runMain } from '../registry/lib/lifecycle.ts'
import { bufferedStdout, makeLog } from '../registry/lib/log.ts'
import { requireSafeRuntime } from '../registry/lib/runtime.ts'
import { readAppConfig } from './config.ts'
import { type AppServer, makeAdminServer, makeAppServer } from './server.ts'

/** How long WebSockets and event streams get to say goodbye. */
const STREAM_CLOSE_MS = 1500

requireSafeRuntime()
runMain(async () => {
  const config = readAppConfig(process.env)
  const log = makeLog('app', config.logLevel, bufferedStdout())
  for (const warning of config.warnings) log.warn(warning)
  const server = await makeAppServer(config, log)
  const admin = makeAdminServer(server)
  admin.listen(config.adminPort, config.adminHost)
  await once(admin, 'listening')
  admin.on('error', error => log.error({ err: error }, 'admin listener'))
  await server.app.listen({ port: config.port, host: config.host })
  server.app.server.on('error', error => log.error({ err: error }, 'listener'))
  onTermination(log, config.drainMs, () =>
    stop(server, admin, config.drainNoticeMs, config.drainMs),
  )
  log.info(
    {
      host: config.host,
      port: portOf(server.app.server),
      admin_port: portOf(admin),
      replica: config.replica,
    },
    'listening',
  )
})

/** Not ready first, then streams, then no new connections, then requests in flight, then the pools. */
async function stop(
  { app, drain }: AppServer,
  admin: Server,
  noticeMs: number,
  drainMs: number,
): Promise<void> {
  const deadline = Date.now() + drainMs
  drain.start()
  // So that the gateway's health check sees it before connections are refused.
  await delay(Math.min(noticeMs, drainMs / 2))
  await drain.closeStreams(STREAM_CLOSE_MS)
  const isClosed = app.close()
  await settleWithin(isClosed, deadline - Date.now())
  app.server.closeAllConnections()
  // Its last step ends the pools.
  await settleWithin(isClosed, 2000)
  admin.close()
  admin.closeAllConnections()
}

async function settleWithin(work: Promise<unknown>, ms: number): Promise<void> {
  const late = () => new Error('late')
  await withDeadline(work, Math.max(1, ms), late).catch(() => {})
}

function portOf(server: Server): number {
  return (server.address() as AddressInfo).port
}
