import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { z } from 'zod'
import { Keyring } from '../registry/envelope.ts'
import { checkMasterKey } from '../registry/key-check.ts'
import { makeAddressPolicy } from '../registry/lib/address.ts'
import { readPem } from '../registry/lib/ca.ts'
import { list, parsed, readEnv, url } from '../registry/lib/env.ts'
import { runMain } from '../registry/lib/lifecycle.ts'
import { makeLog } from '../registry/lib/log.ts'
import { requireSafeRuntime } from '../registry/lib/runtime.ts'
import { type ListedTenant, RegistryStore } from '../registry/store.ts'
import { parseTenantId, parseTenantKey } from '../registry/tenant.ts'
import { migrateFleet, type TenantOutcome } from './fleet.ts'

const USAGE = `Usage: npm run db:tenant-migrate [-- OPTIONS]

Brings tenant databases to this release's schema. Without options: every shared tenant that is
not archived, suspended ones included. One that fails does not stop the others; safe to run again.

  --tenant-id UUID   this tenant alone, whatever its mode
  --tenant-key KEY   the same by key
  --help             this text

Exit code 0: all done; 1: one or more failed; 2: wrong usage.
`

requireSafeRuntime()
runMain(main)

/** `npm run db:tenant-migrate`. */
async function main(): Promise<void> {
  const only = readArguments()
  if (only === null) return
  const env = readEnv(
    {
      TENANT_REGISTRY_DB_URL: url('postgres:', 'postgresql:'),
      REGISTRY_DB_SSL_CA: parsed(z.string(), readPem).optional(),
      DB_SSL_CA: parsed(z.string(), readPem).optional(),
      NODE_ENV: z.string().default('development'),
      TENANT_ADDRESS_ALLOW: parsed(list(), makeAddressPolicy),
      MASTER_ENCRYPTION_KEY: z.string(),
      MASTER_ENCRYPTION_KEY_PREVIOUS: list(),
    },
    process.env,
  )
  const { REGISTRY_DB_SSL_CA: registryCa, DB_SSL_CA: ca } = env
  const keyring = await Keyring.derive([
    env.MASTER_ENCRYPTION_KEY,
    ...env.MASTER_ENCRYPTION_KEY_PREVIOUS,
  ])
  const store = new RegistryStore({
    url: env.TENANT_REGISTRY_DB_URL,
    log: makeLog('tenant-migrate', 'silent'),
    poolMax: 2,
    // A batch job rather waits for a slow Registry than leaves a tenant out.
    queryTimeoutMs: 15_000,
    applicationName: 'doorman-migrate',
    ...(registryCa !== undefined && { ca: registryCa }),
  })
  try {
    await checkMasterKey(store, keyring)
    let total = 0
    const failed = await migrateFleet({
      store,
      keyring,
      tenants: only.isAll ? store.list({ mode: 'shared' }) : await pick(store, only),
      directory: join(import.meta.dirname, 'tenant'),
      ...(ca !== undefined && { ca }),
      addressPolicy: env.NODE_ENV === 'production' ? env.TENANT_ADDRESS_ALLOW : null,
      onDone: outcome => {
        total += 1
        process.stdout.write(`${lineOf(outcome)}\n`)
      },
    })
    process.stdout.write(`${total} tenant(s), ${failed} failed\n`)
    process.exitCode = failed === 0 ? 0 : 1
  } finally {
    await store.close()
  }
}

interface Only {
  readonly isAll: boolean
  readonly id: string | undefined
  readonly key: string | undefined
}

function readArguments(): Only | null {
  try {
    const { values } = parseArgs({
      options: {
        'tenant-id': { type: 'string' },
        'tenant-key': { type: 'string' },
        help: { type: 'boolean' },
      },
    })
    const { 'tenant-id': id, 'tenant-key': key } = values
    if (values.help) {
      process.stdout.write(USAGE)
      return null
    }
    if (id !== undefined && key !== undefined)
      throw new Error('--tenant-id or --tenant-key, not both')
    if (id !== undefined && parseTenantId(id) === null) throw new Error('--tenant-id is not a UUID')
    if (key !== undefined && parseTenantKey(key) === null)
      throw new Error('--tenant-key is not a key')
    return { isAll: id === undefined && key === undefined, id, key }
  } catch (error) {
    process.stderr.write(`${(error as Error).message}\n\n${USAGE}`)
    process.exitCode = 2
    return null
  }
}

async function pick(store: RegistryStore, { id, key }: Only): Promise<readonly ListedTenant[]> {
  const tenantId = parseTenantId(id)
  const tenantKey = parseTenantKey(key)
  const found = []
  for await (const listed of store.list()) {
    const isWanted =
      tenantId !== null
        ? parseTenantId(listed.id) === tenantId
        : parseTenantKey(listed.key) === tenantKey
    if (isWanted) found.push(listed)
  }
  if (found.length === 0) throw new Error(`no tenant ${id ?? key}`)
  return found
}

function lineOf({ tenant, result, before, after, durationMs, note }: TenantOutcome): string {
  const versions = `${before ?? '-'} -> ${after ?? '-'}`
  return [result.padEnd(7), tenant.key, versions, `${durationMs} ms`, ...(note ? [note] : [])].join(
    '  ',
  )
}
