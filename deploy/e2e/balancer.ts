import { Agent, request } from 'node:http'
import type { Test } from 'tap'
import { call } from './call.ts'

/** A gateway or an app that runs; of it what is needed here. */
export interface Target {
  readonly pid: number
  readonly port: number
  readonly origin: string
  readonly adminOrigin: string
  readonly exited: Promise<string>
}

export interface Balancer {
  /** @param refused the origin that has just refused a connection */
  next(refused: string | null): string
  stop(): Promise<void>
}

/** Sends new connections to the gateways that say they are ready, as any balancer does; they may change in their array. */
export function startBalancer(gateways: readonly Target[], everyMs: number): Balancer {
  let ready: readonly Target[] = gateways
  let turn = 0
  let isStopped = false
  const look = async () => {
    while (!isStopped) {
      const answers = await Promise.all(
        gateways.map(({ adminOrigin }) =>
          call(adminOrigin, '/readyz', { timeoutMs: 1000 }).catch(() => null),
        ),
      )
      ready = gateways.filter((_, i) => answers[i]?.status === 200)
      await new Promise(resolve => setTimeout(resolve, everyMs))
    }
  }
  const looking = look()
  return {
    next(refused: string | null): string {
      turn++
      const origins = ready.map(({ origin }) => origin).filter(origin => origin !== refused)
      return origins[turn % origins.length] ?? gateways[turn % 2]?.origin ?? ''
    },
    stop() {
      isStopped = true
      return looking
    },
  }
}

/** A client that keeps its connection for some requests, and tries again only where it was refused. */
export function makeSender(next: (refused: string | null) => string) {
  let agent = new Agent({ keepAlive: true, maxSockets: 1 })
  let origin = next(null)
  let left = 25
  const attempt = (method: string, path: string, token: string, body: string | undefined) =>
    new Promise<{ status: number; text: string }>((resolve, reject) => {
      const req = request(`${origin}${path}`, {
        method,
        agent,
        signal: AbortSignal.timeout(15_000),
        headers: {
          authorization: `Bearer ${token}`,
          ...(body !== undefined && {
            'content-type': 'application/json',
            'content-length': Buffer.byteLength(body),
          }),
        },
      })
      req.on('error', reject)
      req.on('response', async res => {
        try {
          let text = ''
          for await (const chunk of res.setEncoding('utf8')) text += chunk
          if (res.headers.connection === 'close') origin = next(null)
          resolve({ status: res.statusCode ?? 0, text })
        } catch (error) {
          reject(error)
        }
      })
      req.end(body)
    })
  return async (method: string, path: string, token: string, json?: unknown) => {
    const body = json === undefined ? undefined : JSON.stringify(json)
    if (left-- === 0) {
      agent.destroy()
      agent = new Agent({ keepAlive: true, maxSockets: 1 })
      origin = next(null)
      left = 25
    }
    const deadline = Date.now() + 5000
    for (;;) {
      try {
        return await attempt(method, path, token, body)
      } catch (error) {
        const isRefused = (error as NodeJS.ErrnoException).code === 'ECONNREFUSED'
        if (!isRefused || Date.now() > deadline) throw error
        origin = next(origin)
      }
    }
  }
}

/** SIGTERM; how long the process took to end in order. */
export async function exitOf(binary: Target, t: Test): Promise<number> {
  const startedAt = performance.now()
  process.kill(binary.pid, 'SIGTERM')
  t.match(await binary.exited, 'exit code 0')
  const tookMs = performance.now() - startedAt
  t.comment(`${Math.round(tookMs)} ms`)
  return tookMs
}

/** On the same port: another process may hold it for the moment of one connect of its own. */
export async function again<T extends Target>(
  start: (port: string) => Promise<T>,
  { port }: Target,
): Promise<T> {
  const deadline = Date.now() + 5000
  for (;;) {
    try {
      return await start(String(port))
    } catch (error) {
      if (Date.now() > deadline) throw error
    }
  }
}
