import { execFile } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { Agent, request } from 'node:http'
import { fileURLToPath } from 'node:url'
import { acceptsConnections, freePort, startChild, waitUntilReady } from './lib/child.ts'
import { usageOfTree } from './lib/proc.ts'
import { makeToken } from './lib/tokens.ts'
import type { World } from './load/job.ts'
import { doorman } from './peers/doorman.ts'
import { type BenchRegistry, startRegistry } from './registry.ts'

const LIST_COST = fileURLToPath(new URL('../registry/admin/list-cost.ts', import.meta.url))
const UPSTREAM = fileURLToPath(new URL('./upstream/main.ts', import.meta.url))
const TENANTS = 10_000
const CLIENTS = 32
const DEADLINE_MS = 300_000

interface ListCost {
  readonly total: number
  /** Milliseconds. */
  readonly cost: Readonly<Record<string, { p50: number; p99: number }>>
}

/** `npm run bench -- registry`: what ten thousand tenants cost to bring in, to look through and to serve. */
export async function benchControlPlane(): Promise<string> {
  const registry = await startRegistry(TENANTS)
  try {
    const list = await readListCost(registry.access.url)
    const memory = await serveAll(registry)
    const rows = Object.entries(list.cost).map(
      ([kind, { p50, p99 }]) =>
        `  ${kind.padEnd(40)} ${p50.toFixed(1).padStart(8)} ${p99.toFixed(1).padStart(8)}\n`,
    )
    return [
      `  ${list.total} tenants brought in by create --batch in ${(registry.seedMs / 1000).toFixed(1)} s\n\n`,
      `  ${'a page of 50 tenants, ms'.padEnd(40)} ${'p50'.padStart(8)} ${'p99'.padStart(8)}\n`,
      ...rows,
      `\n  resident memory of a gateway, MB: ${mb(memory.before)} at its start, `,
      `${mb(memory.once)} with all ${list.total} tenants served once, ${mb(memory.again)} after ${ROUNDS} rounds\n`,
    ].join('')
  } finally {
    await registry.stop()
  }
}

function readListCost(url: string): Promise<ListCost> {
  return new Promise((resolve, reject) => {
    const options = { timeout: DEADLINE_MS, killSignal: 'SIGKILL' } as const
    const child = execFile(process.execPath, [LIST_COST], options, (error, stdout) => {
      if (error !== null) reject(error)
      else resolve(JSON.parse(stdout) as ListCost)
    })
    child.stdin?.on('error', () => {})
    child.stdin?.end(url)
  })
}

/** Rounds over all tenants in all, each with tokens never seen before. */
const ROUNDS = 3

async function serveAll({ access, tenants }: BenchRegistry) {
  const world: World = { jwtSecret: randomBytes(32).toString('hex'), tenants }
  const upstreamPort = await freePort()
  const upstream = await startChild([process.execPath, UPSTREAM, String(upstreamPort)], {
    hasIpc: true,
  })
  try {
    await waitUntilReady(upstream, () => acceptsConnections(upstreamPort))
    const gateway = await doorman.start({
      ...{ dir: '', worldFile: '', prefix: [], profileDir: null, connectionsMax: CLIENTS },
      ...{ upstreamPort, world, registry: access },
    })
    try {
      const rss = () => usageOfTree(gateway.pid).rssBytes
      const before = rss()
      await askAll(gateway.port, world)
      const once = rss()
      for (let round = 1; round < ROUNDS; round++) await askAll(gateway.port, world)
      return { before, once, again: rss() }
    } finally {
      await gateway.stop()
    }
  } finally {
    await upstream.stop()
  }
}

/** One request for each tenant. @throws Error where one is not served */
async function askAll(port: number, { jwtSecret, tenants }: World): Promise<void> {
  const agent = new Agent({ keepAlive: true, maxSockets: CLIENTS })
  const issuedAtS = Math.floor(Date.now() / 1000)
  const rest = tenants.values()
  const work = async () => {
    for (const { id } of rest) {
      const status = await ask(agent, port, makeToken(jwtSecret, id, 0, issuedAtS))
      if (status !== 200) throw new Error(`a tenant was answered with ${status}`)
    }
  }
  try {
    await Promise.all(Array.from({ length: CLIENTS }, work))
  } finally {
    agent.destroy()
  }
}

function ask(agent: Agent, port: number, token: string): Promise<number | undefined> {
  return new Promise((resolve, reject) => {
    const headers = { authorization: `Bearer ${token}` }
    const req = request({ port, agent, path: '/api/small', headers }, res => {
      res.resume().on('end', () => resolve(res.statusCode))
      res.on('error', reject)
    })
    req.on('error', reject)
    req.setTimeout(10_000, () => req.destroy(new Error('no answer within 10 s')))
    req.end()
  })
}

function mb(bytes: number): string {
  return (bytes / 2 ** 20).toFixed(0)
}
