import type { IncomingMessage, ServerResponse } from 'node:http'
import { setTimeout as delay } from 'node:timers/promises'
import { ADMIN_BASE, makeAdminApp } from '../registry/admin/api/server.ts'
import { Authenticator } from '../registry/admin/authenticate.ts'
import type { AdminDeps } from '../registry/admin/deps.ts'
import { MigrationStreams } from '../registry/admin/migration-streams.ts'
import { settleRotations } from '../registry/admin/rotation-record.ts'
import { serveConsole } from '../registry/console/console.ts'
import { ConsoleSessions } from '../registry/console/sessions.ts'
import { Keyring } from '../registry/envelope.ts'
import { checkMasterKey } from '../registry/key-check.ts'
import { readCa } from '../registry/lib/ca.ts'
import type { Log } from '../registry/lib/log.ts'
import { RunLauncher } from '../registry/migrate/launcher.ts'
import { runnerEnv } from '../registry/migrate/runner-process.ts'
import { migrateByChild } from '../registry/provision/migrate-child.ts'
import { Provisioner } from '../registry/provision/provisioner.ts'
import { RegistryStore } from '../registry/store.ts'
import type { GatewayConfig } from './config.ts'

/** The control plane, as the internal listener serves it. */
export interface Admin {
  /** True where the request was taken. */
  take(req: IncomingMessage, res: ServerResponse): boolean
  /** At the begin of a drain: runs of migrations are asked to stop in order, event streams end. */
  drain(): void
  close(): Promise<void>
}

const POOL_MAX = 3
/** Longer than the data plane's: nobody's request waits for it, and a list reads more than one row. */
const QUERY_TIMEOUT_MS = 10_000
const CONNECT_TIMEOUT_MS = 3000
const SETTLE_MS = 60_000
/** For a step of a tenant that is being made, at the end of the process. */
const STOP_MS = 1000
/** What a run that stops in order gets at the very end, after the drain; then it goes on without this process. */
const RUN_END_MS = 500

/**
 * The admin API with a Registry pool of its own, so that neither it nor the data plane waits for the other.
 * The Registry need not be there yet: each call says so by itself.
 *
 * @param env of this process, for those that it starts; secrets are handed on by it and by no argument
 */
export async function openAdmin(
  config: GatewayConfig,
  log: Log,
  env: NodeJS.ProcessEnv,
): Promise<Admin> {
  const ca = await readCa(config.REGISTRY_DB_SSL_CA, 'REGISTRY_DB_SSL_CA')
  const store = new RegistryStore({
    url: config.TENANT_REGISTRY_DB_URL,
    poolMax: POOL_MAX,
    queryTimeoutMs: QUERY_TIMEOUT_MS,
    connectTimeoutMs: CONNECT_TIMEOUT_MS,
    applicationName: 'doorman-admin',
    log,
    ...(ca !== undefined && { ca }),
  })
  const provisioner = new Provisioner(migrateByChild(env), log)
  const isProduction = config.NODE_ENV === 'production'
  const launcher = new RunLauncher({ store, env: runnerEnv(env), log })
  const streams = new MigrationStreams()
  const deps: AdminDeps = {
    store,
    keyring: makeKeyring(config, store),
    tenantCa: config.DB_SSL_CA,
    addressPolicy: isProduction ? config.TENANT_ADDRESS_ALLOW : null,
    platformIssuer: config.JWT_ISSUER ?? null,
    isProduction,
    archiveGraceDays: config.ARCHIVE_GRACE_DAYS,
    provisioner,
    log,
    migrations: { launcher, streams },
  }
  if (config.ADMIN_API_KEY === undefined) {
    log.warn('ADMIN_API_KEY is not set: the admin API answers to named keys alone')
  }
  const firstKey = config.ADMIN_API_KEY
  const sessions = new ConsoleSessions(deps, firstKey, {
    idleMs: config.ADMIN_SESSION_IDLE_MS,
    maxMs: config.ADMIN_SESSION_MAX_MS,
  })
  const app = await makeAdminApp(deps, new Authenticator(deps, firstKey), sessions, log)
  const console = serveConsole(log)
  const settling = setInterval(() => {
    // The Registry may be down, or older than this release; the next minute will tell.
    settleRotations(deps).catch(error => log.debug({ err: error }, 'rotations not looked at'))
  }, SETTLE_MS)
  settling.unref()
  const drain = () => {
    launcher.drain()
    streams.close()
  }
  return {
    take(req, res) {
      const path = req.url?.split('?', 1)[0] ?? ''
      if (path !== ADMIN_BASE && !path.startsWith(`${ADMIN_BASE}/`)) return console.take(req, res)
      app.routing(req, res)
      return true
    },
    drain,
    async close() {
      clearInterval(settling)
      drain()
      await launcher.close(RUN_END_MS)
      await app.close()
      // A step that hangs in a server's answer is left to whoever goes on with the run.
      await Promise.race([provisioner.close(), delay(STOP_MS, null, { ref: false })])
      await store.close()
    },
  }
}

/** Derived when a secret is first needed; a failure is tried again by the next call. */
function makeKeyring(config: GatewayConfig, store: RegistryStore): () => Promise<Keyring> {
  let keyring: Promise<Keyring> | null = null
  const derive = async () => {
    const masters = [config.MASTER_ENCRYPTION_KEY, ...config.MASTER_ENCRYPTION_KEY_PREVIOUS]
    const derived = await Keyring.derive(masters)
    // What is sealed with a wrong key nobody could open.
    await checkMasterKey(store, derived)
    return derived
  }
  return () => {
    keyring ??= derive().catch(error => {
      keyring = null
      throw error
    })
    return keyring
  }
}
