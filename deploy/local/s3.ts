import { fork } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { mkdir } from 'node:fs/promises'
import { resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { S3Answer, S3Config } from './s3-server.ts'
import type { S3Grant } from './s3-signature.ts'

/** A running S3 server of our own, on loopback. Clients need `forcePathStyle`; any region does. */
export interface LocalS3 {
  readonly endpoint: string
  readonly port: number
  readonly pid: number
  /** A pair of keys that opens all buckets. */
  readonly accessKey: string
  readonly secretKey: string
  /** Resolves when the server ends, wanted or not. */
  readonly exited: Promise<string>
  stop(): Promise<void>
}

export interface S3Options {
  readonly dataDir: string
  /** 0 or absent: a free one. */
  readonly port?: number
  readonly buckets: readonly string[]
  /** The pair that opens all buckets; absent: random. */
  readonly accessKey?: string
  readonly secretKey?: string
  /** Further pairs, each for some buckets or a prefix. */
  readonly grants?: readonly S3Grant[]
}

const READY_MS = 15_000
const STOP_MS = 3_000

/**
 * Starts the S3 server as a child process and waits until it listens. It ends with this process.
 *
 * @throws Error where it does not come up within 15 s
 */
export async function startS3(options: S3Options): Promise<LocalS3> {
  const accessKey = options.accessKey ?? randomBytes(10).toString('hex').toUpperCase()
  const secretKey = options.secretKey ?? randomBytes(24).toString('base64url')
  const directory = resolve(options.dataDir)
  await mkdir(directory, { recursive: true, mode: 0o700 })
  const child = fork(fileURLToPath(new URL('s3-server.ts', import.meta.url)), [], {
    // Nothing of our environment: it holds secrets of others.
    env: { PATH: process.env.PATH },
    execArgv: [],
    detached: true,
    stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
  })
  let lastLines = ''
  child.stderr?.setEncoding('utf8').on('data', (text: string) => {
    lastLines = (lastLines + text).slice(-2000)
  })
  const exited = new Promise<string>(done => {
    child.on('error', error => done(String(error)))
    // Not 'close': after a disconnect from our side Node does not emit it.
    child.on('exit', () => done(lastLines))
  })
  const stop = async () => {
    if (child.connected) child.disconnect()
    const timer = setTimeout(() => child.kill('SIGKILL'), STOP_MS)
    await exited
    clearTimeout(timer)
  }
  const config: S3Config = {
    directory,
    port: options.port ?? 0,
    buckets: options.buckets,
    grants: [{ accessKey, secretKey, buckets: options.buckets }, ...(options.grants ?? [])],
  }
  try {
    const answered = once(child, 'message', { signal: AbortSignal.timeout(READY_MS) })
    child.send(config)
    const [answer] = (await Promise.race([answered, exited.then(text => [{ failed: text }])])) as [
      S3Answer,
    ]
    if ('failed' in answer) throw new Error(`The S3 server did not start: ${answer.failed}`)
    return {
      endpoint: `http://127.0.0.1:${answer.port}`,
      port: answer.port,
      pid: child.pid as number,
      accessKey,
      secretKey,
      exited,
      stop,
    }
  } catch (error) {
    await stop()
    throw error
  }
}
