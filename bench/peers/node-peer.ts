import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { acceptsConnections, freePort, startChild, waitUntilReady } from '../lib/child.ts'
import type { Running, Setting } from './peer.ts'

/** Starts `bench/peers/<script>` as a process of its own. */
export async function startNodePeer(script: string, setting: Setting): Promise<Running> {
  const port = await freePort()
  const file = fileURLToPath(new URL(script, import.meta.url))
  const child = await startChild(
    [process.execPath, file, String(port), String(setting.upstreamPort), setting.worldFile],
    { prefix: setting.prefix, env: { NODE_ENV: 'production' } },
  )
  await waitUntilReady(child, () => acceptsConnections(port))
  return { port, pid: child.pid, stop: () => child.stop() }
}

/** Version of an installed npm package; null where it is missing. */
export function packageVersion(name: string): string | null {
  try {
    let dir = dirname(createRequire(import.meta.url).resolve(name))
    for (;;) {
      const found = tryRead(join(dir, 'package.json'))
      if (found?.name === name) return found.version ?? 'unknown'
      if (dir === dirname(dir)) return null
      dir = dirname(dir)
    }
  } catch {
    return null
  }
}

function tryRead(file: string): { name?: string; version?: string } | null {
  try {
    return JSON.parse(readFileSync(file, 'utf8')) as { name?: string; version?: string }
  } catch {
    return null
  }
}
