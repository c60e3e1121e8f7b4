import { parentPort } from 'node:worker_threads'
import { buildConsole } from './build.ts'

/** A thread of its own: whoever serves tenants in this process does not wait while the console is made ready. */
parentPort?.postMessage(await buildConsole())
