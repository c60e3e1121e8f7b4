import { chmodSync, existsSync, mkdirSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { parseArgs } from 'node:util'
import { composeSecrets, doormanSecrets } from './secrets.ts'

/*
 * node deploy/secrets/main.ts DIR [--compose]
 *
 * Makes every key that a new installation needs, each in a file of its own below DIR: gateway/, app/ and, with --compose,
 * stores/. Never writes over a folder that is there: keys that are in use would be lost, and with them all tenants' secrets.
 */
const { positionals, values } = parseArgs({
  allowPositionals: true,
  options: { compose: { type: 'boolean', default: false } },
})
const [folder] = positionals
if (folder === undefined || positionals.length > 1) fail('usage: main.ts DIR [--compose]')
if (existsSync(folder)) fail(`${folder} is there already; keys that may be in use are not replaced`)
const secrets = values.compose ? composeSecrets() : doormanSecrets()
mkdirSync(folder, { recursive: true, mode: 0o700 })
chmodSync(folder, 0o700)
for (const [name, text] of secrets) {
  const file = join(folder, name)
  mkdirSync(dirname(file), { recursive: true })
  // Compose shows a container the file as it is, to an account that is not ours; nobody else gets past the folder.
  writeFileSync(file, text, { mode: 0o644, flag: 'wx' })
}
process.stdout.write(
  `${secrets.size} secrets in ${folder}. Keep a copy of them where it is safe.\n`,
)
if (!values.compose) {
  process.stdout.write(
    `Write the Registry's URL to ${join(folder, 'gateway/TENANT_REGISTRY_DB_URL')}.\n`,
  )
}

function fail(text: string): never {
  process.stderr.write(`${text}\n`)
  process.exit(1)
}
