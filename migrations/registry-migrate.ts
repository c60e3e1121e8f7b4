import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { z } from 'zod'
import { Keyring } from '../registry/envelope.ts'
import { checkMasterKey } from '../registry/key-check.ts'
import { readPem } from '../registry/lib/ca.ts'
import { list, parsed, readEnv, url } from '../registry/lib/env.ts'
import { runMain } from '../registry/lib/lifecycle.ts'
import { makeLog } from '../registry/lib/log.ts'
import { parsePgUrl } from '../registry/lib/pg.ts'
import { requireSafeRuntime } from '../registry/lib/runtime.ts'
import { RegistryStore } from '../registry/store.ts'
import { RETRIES, withRetries } from './retry.ts'
import { migrate, planOf } from './runner.ts'

requireSafeRuntime()
runMain(main)

/** `npm run db:registry-migrate`: brings the Registry to this release's schema. Safe to run again. */
async function main(): Promise<void> {
  const { values } = parseArgs({ options: { plan: { type: 'boolean', default: false } } })
  const isPlan = values.plan
  const env = readEnv(
    {
      TENANT_REGISTRY_DB_URL: url('postgres:', 'postgresql:'),
      REGISTRY_DB_SSL_CA: parsed(z.string(), readPem).optional(),
      /** Where it is set, it is checked against the Registry, and the key check is written. */
      MASTER_ENCRYPTION_KEY: z.string().optional(),
      MASTER_ENCRYPTION_KEY_PREVIOUS: list(),
    },
    process.env,
  )
  const ca = env.REGISTRY_DB_SSL_CA
  const target = parsePgUrl(env.TENANT_REGISTRY_DB_URL, ca)
  const directory = join(import.meta.dirname, 'registry')
  if (isPlan) {
    const { version, pending } = await planOf({ target, directory })
    process.stdout.write(`-- Registry is at ${version ?? 'no version'}\n`)
    for (const { name, sql } of pending) process.stdout.write(`\n-- ${name}\n${sql}`)
    return
  }
  const result = await withRetries(RETRIES, () => migrate({ target, directory }))
  for (const warning of result.warnings) process.stderr.write(`warning: ${warning}\n`)
  for (const { file, durationMs } of result.applied) {
    process.stdout.write(`applied ${file} (${durationMs} ms)\n`)
  }
  process.stdout.write(
    result.isAhead
      ? `Registry is at ${result.after}, newer than this release: nothing to do\n`
      : `Registry is at ${result.after ?? 'no version'}\n`,
  )

  if (env.MASTER_ENCRYPTION_KEY === undefined) {
    process.stdout.write('MASTER_ENCRYPTION_KEY is not set: the key check was left out\n')
    return
  }
  const keyring = await Keyring.derive([
    env.MASTER_ENCRYPTION_KEY,
    ...env.MASTER_ENCRYPTION_KEY_PREVIOUS,
  ])
  const store = new RegistryStore({
    url: env.TENANT_REGISTRY_DB_URL,
    log: makeLog('registry-migrate', 'silent'),
    poolMax: 1,
    applicationName: 'doorman-migrate',
    ...(ca !== undefined && { ca }),
  })
  try {
    await checkMasterKey(store, keyring)
    process.stdout.write('Master key fits the Registry\n')
  } finally {
    await store.close()
  }
}
