import { randomBytes, randomUUID } from 'node:crypto'
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { Generator } from './generator.ts'
import { acceptsConnections, freePort, startChild, waitUntilReady } from './lib/child.ts'
import { planPinning } from './lib/cpus.ts'
import type { World } from './load/job.ts'
import type { Peer, Running, Setting } from './peers/peer.ts'
import { startRegistry } from './registry.ts'
import { Witnesses } from './witness.ts'

const UPSTREAM = fileURLToPath(new URL('./upstream/main.ts', import.meta.url))
/** The idle scenario's 10,000 and some to spare. */
const CONNECTIONS_MAX = 11_000

/** Everything around the proxies: scratch folder, Registry, tenants, upstream, load generator. */
export interface Scene {
  readonly world: World
  readonly generator: Generator
  /** Another one, for floods beside what is measured; started when it is first asked for. */
  flooder(): Promise<Generator>
  /** Started when they are first asked for. */
  witnesses(): Promise<Witnesses>
  readonly upstreamPort: number
  readonly upstreamPid: number
  readonly pinning: string
  /** Where Doorman's CPU profiles go; null where none are wanted. */
  readonly profileDir: string | null
  startPeer(peer: Peer): Promise<Running>
  stop(): Promise<void>
}

/** @param needsRegistry false where the gateway itself does not run */
export async function setScene(
  tenantCount: number,
  needsRegistry: boolean,
  isProfiled: boolean,
): Promise<Scene> {
  const ends: (() => Promise<unknown>)[] = []
  const stop = async () => {
    for (const end of ends.splice(0).reverse()) await end()
  }
  try {
    const dir = await mkdtemp(join(tmpdir(), 'doorman-bench-'))
    ends.push(() => rm(dir, { recursive: true, force: true }))
    const profileDir = isProfiled ? join(dir, 'profiles') : null
    if (profileDir !== null) await mkdir(profileDir)
    const registry = needsRegistry ? await startRegistry(tenantCount) : null
    if (registry !== null) ends.push(() => registry.stop())
    const world: World = {
      jwtSecret: randomBytes(32).toString('hex'),
      tenants: registry?.tenants ?? makeTenants(tenantCount),
    }
    const worldFile = join(dir, 'world.json')
    await writeFile(worldFile, JSON.stringify(world), { mode: 0o600 })

    const pinning = planPinning()
    const upstreamPort = await freePort()
    const upstream = await startChild([process.execPath, UPSTREAM, String(upstreamPort)], {
      prefix: pinning.upstream,
      hasIpc: true,
    })
    ends.push(() => upstream.stop())
    await waitUntilReady(upstream, () => acceptsConnections(upstreamPort))
    const generator = await Generator.start(worldFile, pinning.load)
    ends.push(() => generator.stop())
    let flooder: Promise<Generator> | null = null
    let witnesses: Promise<Witnesses> | null = null

    return {
      world,
      generator,
      flooder() {
        flooder ??= Generator.start(worldFile, pinning.load).then(started => {
          ends.push(() => started.stop())
          return started
        })
        return flooder
      },
      witnesses() {
        witnesses ??= Witnesses.start(pinning).then(started => {
          ends.push(() => started.stop())
          return started
        })
        return witnesses
      },
      upstreamPort,
      upstreamPid: upstream.pid,
      pinning: pinning.text,
      profileDir,
      stop,
      async startPeer(peer) {
        const setting: Setting = {
          dir: join(dir, `${peer.name}-${randomUUID().slice(0, 8)}`),
          upstreamPort,
          world,
          worldFile,
          prefix: pinning.proxy,
          connectionsMax: CONNECTIONS_MAX,
          registry: registry?.access ?? null,
          profileDir,
        }
        await mkdir(setting.dir)
        const running = await peer.start(setting)
        // Also when the run is cut short; stopping twice does no harm.
        ends.push(() => running.stop())
        return running
      },
    }
  } catch (error) {
    await stop()
    throw error
  }
}

function makeTenants(count: number): World['tenants'] {
  return Array.from({ length: count }, (_, i) => ({ id: randomUUID(), key: `tenant-${i}` }))
}
