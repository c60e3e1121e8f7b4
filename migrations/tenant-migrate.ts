import { join } from 'node:path'
import { createInterface } from 'node:readline/promises'
import { z } from 'zod'
import { Keyring } from '../registry/envelope.ts'
import { checkMasterKey } from '../registry/key-check.ts'
import { makeAddressPolicy } from '../registry/lib/address.ts'
import { readPem } from '../registry/lib/ca.ts'
import { list, parsed, readEnv, url } from '../registry/lib/env.ts'
import { runMain } from '../registry/lib/lifecycle.ts'
import { makeLog } from '../registry/lib/log.ts'
import { parsePgUrl } from '../registry/lib/pg.ts'
import { requireSafeRuntime } from '../registry/lib/runtime.ts'
import { RegistryStore } from '../registry/store.ts'
import { type CommandContext, runCommand, type Terminal } from './commands.ts'
import { makeMigration } from './new-file.ts'
import { type Options, parseOptions, USAGE } from './options.ts'

requireSafeRuntime()
runMain(main)

/** `npm run db:tenant-migrate`. */
async function main(): Promise<void> {
  // Whoever reads may leave: `| head`, or the gateway that started it. No run ends half-way for that.
  for (const stream of [process.stdout, process.stderr]) stream.on('error', () => {})
  const options = readArguments()
  if (options === null) return
  if (options.command === 'new') return makeNew(options)
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
  const context: CommandContext = {
    ...{ options, store, keyring },
    registry: parsePgUrl(env.TENANT_REGISTRY_DB_URL, registryCa),
    directory: options.directory ?? join(import.meta.dirname, 'tenant'),
    ...(ca !== undefined && { ca }),
    addressPolicy: env.NODE_ENV === 'production' ? env.TENANT_ADDRESS_ALLOW : null,
    signal: stopSignal(),
    terminal: openTerminal(),
  }
  try {
    await checkMasterKey(store, keyring)
    process.exitCode = await runCommand(context)
  } finally {
    await store.close()
  }
}

function readArguments(): Options | null {
  try {
    const options = parseOptions(process.argv.slice(2))
    if (options !== 'help') return options
    process.stdout.write(USAGE)
  } catch (error) {
    process.stderr.write(`${(error as Error).message}\n\n${USAGE}`)
    process.exitCode = 2
  }
  return null
}

async function makeNew(options: Options): Promise<void> {
  const { name, isRegistry, withDown, withoutTransaction } = options
  const folder = join(import.meta.dirname, isRegistry ? 'registry' : 'tenant')
  const directory = options.directory ?? folder
  const made = await makeMigration({ directory, name: name ?? '', withDown, withoutTransaction })
  process.stdout.write(`${made.join('\n')}\n`)
}

function openTerminal(): Terminal {
  const { stdin, stdout, stderr } = process
  const err = (text: string) => void stderr.write(text)
  return {
    out: text => void stdout.write(text),
    err,
    bar: stderr.isTTY ? err : null,
    async ask(question) {
      if (!stdin.isTTY || !stderr.isTTY) return null
      const lines = createInterface({ input: stdin, output: stderr })
      try {
        return (await lines.question(question)).trim()
      } finally {
        lines.close()
      }
    },
  }
}

/** The first signal lets what runs finish, the second ends the process: the databases roll back by themselves. */
function stopSignal(): AbortSignal {
  const controller = new AbortController()
  const onSignal = () => {
    if (controller.signal.aborted) process.exit(130)
    controller.abort()
    process.stderr.write('stopping: what runs is finished; once more ends at once\n')
  }
  process.on('SIGINT', onSignal).on('SIGTERM', onSignal)
  return controller.signal
}
