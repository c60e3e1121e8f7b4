import { generateKeyPairSync, randomBytes } from 'node:crypto'
import { existsSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { freePort, startChild, waitUntilReady } from '../lib/child.ts'
import type { Peer } from './peer.ts'

const MAIN = fileURLToPath(new URL('../../gateway/main.ts', import.meta.url))

/** Doorman's gateway, one process, as `npm run start:gateway` runs it. */
export const doorman: Peer = {
  name: 'doorman',
  does:
    'The whole job: token verified (verdicts cached), tenant from the Registry (cached, kept fresh by ' +
    'LISTEN), context signed with EdDSA and encrypted once per tenant and minute, HMAC per request over ' +
    'method, target, user and request id, header hygiene and metrics. ' +
    'Access log off (LOG_LEVEL=warn), as for the peers.',
  isFullJob: true,
  isJit: true,
  find: async () => (existsSync(MAIN) ? `Node ${process.version}` : null),
  async start({ upstreamPort, world, prefix, registry, profileDir, env }) {
    if (registry === null) throw new Error('Doorman needs a Registry')
    const [port, adminPort] = [await freePort(), await freePort()]
    const profiling = profileDir === null ? [] : ['--cpu-prof', `--cpu-prof-dir=${profileDir}`]
    const { privateKey } = generateKeyPairSync('ed25519')
    const child = await startChild([process.execPath, ...profiling, MAIN], {
      prefix,
      env: {
        PORT: String(port),
        HOST: '127.0.0.1',
        ADMIN_PORT: String(adminPort),
        ADMIN_HOST: '127.0.0.1',
        ADMIN_API_KEY: randomBytes(32).toString('base64url'),
        APP_UPSTREAMS: `http://127.0.0.1:${upstreamPort}`,
        TENANT_REGISTRY_DB_URL: registry.url,
        MASTER_ENCRYPTION_KEY: registry.masterKey,
        JWT_SECRET_ACCESS_TOKEN: world.jwtSecret,
        JWT_SECRET_REFRESH_TOKEN: randomBytes(32).toString('base64url'),
        TENANT_CONTEXT_SIGNING_KEY: JSON.stringify(privateKey.export({ format: 'jwk' })),
        TENANT_CONTEXT_ENCRYPTION_KEY: randomBytes(32).toString('base64url'),
        LOG_LEVEL: 'warn',
        // As many as the peers may open to the upstream; 512 requests wait at once in slow-upstream.
        UPSTREAM_CONNECTIONS_MAX: '4096',
        CLIENT_IDLE_TIMEOUT_MS: '120000',
        ...env,
      },
    })
    await waitUntilReady(child, () => isReady(adminPort))
    return { port, pid: child.pid, stop: () => child.stop() }
  },
}

async function isReady(adminPort: number): Promise<boolean> {
  try {
    const answer = await fetch(`http://127.0.0.1:${adminPort}/readyz`)
    await answer.arrayBuffer()
    return answer.ok
  } catch {
    return false // not listening yet
  }
}
