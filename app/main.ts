import { once } from 'node:events'
import type { Server } from 'node:http'
import { type AddressInfo, Server as Listener } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'
import { withDeadline } from '../registry/lib/deadline.ts'
import { onTermination, runMain } from '../registry/lib/lifecycle.ts'
import { bufferedStdout, makeLog } from '../registry/lib/log.ts'
import { requireSafeRuntime } from '../registry/lib/runtime.ts'
import { readAppConfig } from './config.ts'
import { type AppServer, makeAdminServer, makeAppServer } from './server.ts'

/** How long WebSockets and event streams get to say goodbye. */
const STREAM_CLOSE_MS = 1500
/**
 * How long idle connections stay open behind the closed listener: a request that is on its way over one
 * meets an answer with `Connection: close` and not a reset, after which a POST could not be sent again.
 */
const IDLE_GRACE_MS = 1000
const IDLE_SWEEP_MS = 100

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

/**
 * Not ready first, then streams, then no new connections, then each connection with its next answer,
 * then the pools.
 */
async function stop(
  { app, drain }: AppServer,
  admin: Server,
  noticeMs: number,
  drainMs: number,
): Promise<void> {
  const deadline = Date.now() + drainMs
  drain.start()
  // So that the gateway's health check sees it, and nobody is left who would be refused or cut.
  await delay(Math.min(noticeMs, drainMs / 2))
  await drain.closeStreams(STREAM_CLOSE_MS)
  await closeListener(app.server, deadline)
  // Its last step ends the pools.
  await settleWithin(app.close(), 2000)
  admin.close()
  admin.closeAllConnections()
}

/** Resolves when all connections are gone, the last ones by force at the deadline. */
async function closeListener(server: Server, deadline: number): Promise<void> {
  const isEmpty = once(server, 'close')
  // The listener alone: since Node 19 http.Server's own close() cuts idle connections too.
  Listener.prototype.close.call(server)
  await settleWithin(isEmpty, Math.min(IDLE_GRACE_MS, deadline - Date.now()))
  // Again and again: a long answer may have begun before its head could say that it is the last.
  const sweep = setInterval(() => server.closeIdleConnections(), IDLE_SWEEP_MS)
  await settleWithin(isEmpty, deadline - Date.now())
  clearInterval(sweep)
  server.closeAllConnections()
}

async function settleWithin(work: Promise<unknown>, ms: number): Promise<void> {
  const late = () => new Error('late')
  await withDeadline(work, Math.max(1, ms), late).catch(() => {})
}

function portOf(server: Server): number {
  return (server.address() as AddressInfo).port
}
