import type { Worker } from 'node:cluster'
import { exitOnDefect } from '../registry/lib/lifecycle.ts'
import type { Log } from '../registry/lib/log.ts'
import type { ToPrimary, ToWorker } from './cluster-messages.ts'
import type { GatewayConfig } from './config.ts'
import { EXIT_USAGE_LOST } from './exit-codes.ts'
import { type DrainPauses, type Gateway, startGateway } from './gateway.ts'

/**
 * How long idle client connections stay open in a drain: a request that is on its way over one meets
 * an answer with `Connection: close` and not a closed connection.
 */
export const IDLE_GRACE_MS = 1000

/**
 * A gateway as one of several: it does as its primary says, listens on nothing but the public port, and
 * drains and ends when the primary is gone. Errors at its start go to the primary, which tells them
 * once for all workers.
 */
export async function runWorker(worker: Worker, config: GatewayConfig, log: Log): Promise<void> {
  exitOnDefect(log)
  const drainMs = Math.max(0, config.DRAIN_TIMEOUT_MS - 1000)
  let gateway: Gateway | null = null
  let isStopping = false
  const ready = Promise.withResolvers<void>()
  const toldToListen = Promise.withResolvers<number>()
  const started = Promise.withResolvers<Extract<ToWorker, { type: 'start' }>>()

  const stop = async (drainMs: number, pauses: DrainPauses) => {
    if (isStopping) return
    isStopping = true
    setTimeout(() => {
      log.error('drain took too long, exiting')
      process.exit(1)
    }, drainMs + 1000).unref()
    void tell({ type: 'draining' })
    // One that does not listen yet has nothing to lose.
    let isUsageKept = true
    if (gateway !== null) {
      isUsageKept = await gateway.stop(drainMs, pauses)
      await tell({ type: 'figures', figures: await gateway.metrics.getMetricsAsJSON() })
    }
    process.exit(isUsageKept ? 0 : EXIT_USAGE_LOST)
  }
  const stopOrExit = (drainMs: number, pauses: DrainPauses = { idleGraceMs: IDLE_GRACE_MS }) => {
    stop(drainMs, pauses).catch(error => {
      log.error({ err: error }, 'stop failed')
      process.exit(1)
    })
  }
  const onMessage = async (message: ToWorker) => {
    switch (message.type) {
      case 'start':
        return started.resolve(message)
      case 'listen':
        return toldToListen.resolve(message.port)
      case 'collect': {
        const figures = (await gateway?.metrics.getMetricsAsJSON()) ?? []
        return void tell({ type: 'figures', figures })
      }
      case 'stop':
        return stopOrExit(message.drainMs, { idleGraceMs: message.idleGraceMs })
    }
  }
  process.on('message', (message: ToWorker) => {
    onMessage(message).catch(error => log.error({ err: error }, 'message not worked off'))
  })
  worker.on('disconnect', () => {
    // Else node:cluster ends the process at once, and what is in flight with it.
    worker.exitedAfterDisconnect = true
    if (!isStopping) log.error('the primary is gone, stopping')
    stopOrExit(drainMs)
  })
  // A terminal and some supervisors signal the whole group: the primary gets it too, and decides.
  process.on('SIGINT', () => {})
  process.on('SIGHUP', () => {})
  process.on('SIGTERM', () => stopOrExit(drainMs))

  const { port, listen, ticketKeys } = await started.promise
  if (listen === 'at once') toldToListen.resolve(port)
  try {
    gateway = await startGateway(config, log, {
      onFatal: giveUp,
      onReady: ready.resolve,
      ticketKeys,
      worker: worker.id,
      beforeListen: () => Promise.race([ready.promise.then(() => port), toldToListen.promise]),
    })
  } catch (error) {
    return giveUp(error)
  }
  const { publicAddress, whyNotReady } = gateway
  void tell({ type: 'listening', address: publicAddress, whyNotReady: whyNotReady() })
  await ready.promise
  void tell({ type: 'ready' })
}

/** Tells the primary why no other attempt would end otherwise, and ends. */
export async function giveUp(error: unknown): Promise<void> {
  const message = error instanceof Error ? error.message : String(error)
  await tell({ type: 'fatal', message })
  process.exit(1)
}

/** Resolves when the message is on its way, or where the primary is gone: `disconnect` then acts. */
function tell(message: ToPrimary): Promise<void> {
  return new Promise(resolve => {
    if (!process.connected || process.send === undefined) return resolve()
    process.send(message, undefined, undefined, () => resolve())
  })
}
