import type { Log } from './log.ts'

/**
 * Runs `stop` once on SIGTERM or SIGINT, then exits with the number that it returns, or 0; a second signal, or `drainMs` plus a second,
 * ends the process at once with 1. Uncaught errors are logged and end the process: state is unknown
 * after them, and the supervisor starts a fresh one.
 */
export function onTermination(log: Log, drainMs: number, stop: () => Promise<unknown>): void {
  let isStopping = false
  const terminate = (signal: NodeJS.Signals) => {
    if (isStopping) process.exit(1)
    isStopping = true
    log.info({ signal }, 'stopping')
    setTimeout(() => {
      log.error('drain took too long, exiting')
      process.exit(1)
    }, drainMs + 1000).unref()
    stop().then(
      code => process.exit(typeof code === 'number' ? code : 0),
      error => {
        log.error({ err: error }, 'stop failed')
        process.exit(1)
      },
    )
  }
  process.on('SIGTERM', terminate)
  process.on('SIGINT', terminate)
  exitOnDefect(log)
}

/** Ends the process with 70 on an uncaught error, which is logged. */
export function exitOnDefect(log: Log): void {
  process.on('uncaughtException', error => {
    log.fatal({ err: error }, 'uncaught exception')
    process.exit(70)
  })
  process.on('unhandledRejection', error => {
    log.fatal({ err: error }, 'unhandled rejection')
    process.exit(70)
  })
}

/** Runs a binary's main: an error at start is one clear text on stderr and exit 1, no stack trace. */
export function runMain(main: () => Promise<void>): void {
  main().catch((error: unknown) => {
    const text = error instanceof Error ? error.message : String(error)
    process.stderr.write(`doorman: ${text}\n`)
    process.exit(1)
  })
}
