import { type ChildProcess, spawn } from 'node:child_process'
import { randomBytes, randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { Client } from 'pg'
import t from 'tap'
import { childEnv, run } from '../deploy/local/run.ts'
import { CONTEXT_HEADER } from '../registry/context.ts'
import { Keyring } from '../registry/envelope.ts'
import { countSecrets } from '../registry/stored-secrets.ts'
import type { Tenant } from '../registry/tenant.ts'
import { claimsOf, makeToken, startGateway, startUpstream, startWorld, until } from './test-kit.ts'

const ROOT = join(import.meta.dirname, '..')
const CLI = 'registry/cli/main.ts'
const COMMAND_MS = 30_000
const TENANTS = 500
const LOAD_CLIENTS = 4

t.test('a master key is rotated while gateways serve', async t => {
  const world = await startWorld()
  const upstream = await startUpstream()
  const registry = new Client(world.registryUrl)
  await registry.connect()
  const oldKey = world.env.MASTER_ENCRYPTION_KEY as string
  const newKey = randomBytes(32).toString('hex')
  const [oldRing, newRing] = [await Keyring.derive([oldKey]), await Keyring.derive([newKey])]
  const tenants = await seed()
  const keyFile = join(t.testdir({ key: '' }), 'key')
  writeFileSync(keyFile, `${newKey}\n`)
  const { MASTER_ENCRYPTION_KEY: _old, ...rest } = world.env
  const env = { ...rest, APP_UPSTREAMS: upstream.origin }
  const rotating = {
    ...env,
    MASTER_ENCRYPTION_KEY_FILE: keyFile,
    MASTER_ENCRYPTION_KEY_PREVIOUS_COMMAND: `echo ${oldKey}`,
  }
  const gateway = await startGateway(rotating)
  t.teardown(async () => {
    gateway.child.kill('SIGKILL')
    upstream.close()
    await registry.end()
    await world.close()
  })

  async function seed() {
    const made = Array.from({ length: TENANTS }, (_, i) => ({ id: randomUUID(), key: `t${i}` }))
    const passwords = made.map(({ id: owner, key }) =>
      oldRing.encrypt(`password-of-${key}`, { owner, column: 'db_password_encrypted' }),
    )
    await registry.query(
      `INSERT INTO tenants (id, tenant_key, db_host, db_name, db_user, db_password_encrypted)
       SELECT id, key, 'db.example', key, key, password
       FROM unnest($1::uuid[], $2::text[], $3::text[]) AS new (id, key, password)`,
      [made.map(({ id }) => id), made.map(({ key }) => key), passwords],
    )
    return made
  }
  const tenant = async (
    args: readonly string[],
    vars: NodeJS.ProcessEnv = rotating,
    input = '',
  ) => {
    const finished = await run(process.execPath, [CLI, ...args], COMMAND_MS, {
      cwd: ROOT,
      env: { ...childEnv(), ...vars },
      input,
    })
    t.notMatch(finished.output, new RegExp(`password-of|${oldKey}|${newKey}`))
    return finished
  }
  const token = (one: { id: string }) =>
    makeToken(world.env.JWT_SECRET_ACCESS_TOKEN as string, { ...claimsOf(one), type: 'access' })
  const statusOf = async (url: string, one: { id: string }) => {
    const headers = { authorization: `Bearer ${token(one)}` }
    const response = await fetch(`${url}/api/x`, { headers })
    await response.body?.cancel()
    return response.status
  }
  const usesOf = async () =>
    Object.fromEntries(
      (await countSecrets(world.store)).map(({ keyId, secrets }) => [keyId ?? 'legacy', secrets]),
    )

  await t.test('the gateway shows which keys it was given', async t => {
    const text = await (await fetch(`${gateway.internalUrl}/metrics`)).text()
    t.match(text, `doorman_master_keys{key_id="${newRing.currentKeyId}",use="encrypts"} 1`)
    t.match(text, `doorman_master_keys{key_id="${oldRing.currentKeyId}",use="decrypts"} 1`)
  })

  await t.test('through a kill and a second run no request fails and no version moves', async t => {
    const statuses: Record<number, number> = {}
    let isOver = false
    const load = Array.from({ length: LOAD_CLIENTS }, async (_, client) => {
      for (let i = client; !isOver; i = (i + LOAD_CLIENTS) % TENANTS) {
        const status = await statusOf(gateway.url, tenants[i] as Tenant)
        statuses[status] = (statuses[status] ?? 0) + 1
      }
    })
    const versions = 'SELECT id, config_version, updated_at FROM tenants ORDER BY id'
    const before = (await registry.query(versions)).rows
    // Somebody edits the last tenant and takes his time: the rotation waits for that row alone.
    await registry.query('BEGIN')
    await registry.query(
      'SELECT FROM tenants WHERE id = (SELECT id FROM tenants ORDER BY id DESC LIMIT 1) FOR UPDATE',
    )
    const first = spawn(process.execPath, [CLI, 'rotate-master-key'], {
      cwd: ROOT,
      env: { ...childEnv(), ...rotating },
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    await untilSays(first, '400 tenants so far\n')
    first.kill('SIGKILL')
    await once(first, 'exit')
    await registry.query('ROLLBACK')
    const half = { [oldRing.currentKeyId]: TENANTS - 400, [newRing.currentKeyId]: 400 }
    t.strictSame(await usesOf(), half, 'what was done stands, the rest is as it was')
    const check = await tenant(['rotate-master-key', '--check'])
    t.equal(check.code, 1)
    t.match(check.stdout, new RegExp(`${newRing.currentKeyId} +encrypts +400 +400 +yes`))
    t.match(check.stdout, new RegExp(`${oldRing.currentKeyId} +decrypts +100 +100 +yes`))
    t.match(await tenant(['rotate-master-key', '--retire', oldRing.currentKeyId]), {
      code: 1,
      output: /100 secrets are of key/,
    })
    const second = await tenant(['rotate-master-key'])
    t.match(second, { code: 0, stdout: /^100 tenants now under key/m })
    t.strictSame(await usesOf(), { [newRing.currentKeyId]: TENANTS })
    isOver = true
    await Promise.all(load)
    t.strictSame(Object.keys(statuses), ['200'])
    t.ok((statuses[200] ?? 0) > 20)
    t.strictSame((await registry.query(versions)).rows, before)
    t.equal((await tenant(['rotate-master-key', '--check'])).code, 0)
  })

  await t.test('every secret opens, and one that does not is told', async t => {
    const [one, other] = tenants as [Tenant, Tenant]
    const all = await tenant(['decrypt-check'])
    t.equal(all.code, 0)
    t.equal(
      all.stdout.match(/^opens {3}t\d+ {2}db_password_encrypted {2}key [0-9a-f]{16}$/gm)?.length,
      TENANTS,
    )
    const sealed = await tenant(
      ['encrypt', one.key, '--column', 'db_password_encrypted'],
      rotating,
      'a-new-password\n',
    )
    t.notMatch(sealed.output, 'a-new-password')
    const place = { owner: one.id, column: 'db_password_encrypted' } as const
    t.equal(newRing.decrypt(sealed.stdout.trim(), place), 'a-new-password')
    const set = 'UPDATE tenants SET db_password_encrypted = $1 WHERE id = $2'
    await registry.query(set, [sealed.stdout.trim(), other.id])
    const wrong = await tenant(['decrypt-check', other.key])
    t.match(wrong, {
      code: 1,
      stdout: /^FAILED {2}t1 {2}db_password_encrypted {2}the ciphertext does not/,
    })
    t.equal((await tenant(['decrypt-check', one.key])).code, 0)
    await registry.query(set, [newRing.encrypt('mended', { ...place, owner: other.id }), other.id])
  })

  await t.test('a retired key is refused, and the new one serves alone', async t => {
    const retire = ['rotate-master-key', '--retire']
    t.match(await tenant([...retire, newRing.currentKeyId]), { code: 2 })
    t.equal((await tenant([...retire, 'ffffffffffffffff'])).code, 4)
    t.match(await tenant([...retire, oldRing.currentKeyId]), { code: 0, stdout: /is retired/ })
    const late = await tenant(['decrypt-check'], { ...env, MASTER_ENCRYPTION_KEY: oldKey })
    t.match(late, { code: 1, output: /MASTER_ENCRYPTION_KEY is not the key/ })
    const alone = await startGateway({ ...env, MASTER_ENCRYPTION_KEY: newKey })
    try {
      for (const one of tenants.slice(0, 10)) t.equal(await statusOf(alone.url, one), 200)
      const token = upstream.requests.at(-1)?.headers[CONTEXT_HEADER]
      const context = await world.verifier.verify(String(token), Date.now())
      t.equal(context.db.password, 'password-of-t9')
    } finally {
      await alone.stop('SIGKILL')
    }
  })
})

async function untilSays(child: ChildProcess, text: string): Promise<void> {
  let said = ''
  child.stdout?.on('data', chunk => {
    said += chunk
  })
  await until(() => said.includes(text))
}
