import { randomBytes, randomUUID } from 'node:crypto'
import pg from 'pg'
import type { Page } from 'playwright-core'
import t, { type Test } from 'tap'
import { type OpenOptions, startBrowser, type Visit } from './browser.ts'
import { startWorld } from './test-kit.ts'

/*
 * The pages of the console that are about the whole installation, as an operator uses them: a real Chromium, the real
 * gateway, two replicas, PostgreSQL.
 */
const KEY = `admin-${randomBytes(24).toString('hex')}`
const [world, browser] = await Promise.all([
  startWorld({ gatewayEnv: { ADMIN_API_KEY: KEY } }),
  startBrowser(),
])
t.teardown(async () => {
  await browser.close()
  await world.close()
})
world.leaks.plant('admin key', KEY)
const WAIT_MS = 15_000
/** A runner is a process. */
const RUN_MS = 30_000
/** Runs wherever it becomes markup, and is a text that can be looked for. */
const MARKUP = '<img src=x onerror=alert(1)>'
const console = `${world.gateway.adminOrigin}/admin`
const readKey = await makeKey('reader', 'read')

async function makeKey(name: string, scope: string): Promise<string> {
  const { output } = await world.cli(['admin-key', 'create', name, '--scope', scope])
  const [key] = output.split('\n').filter(line => /^[\w-]{32,}$/.test(line))
  if (key === undefined) throw new Error(`no key in ${output}`)
  return key
}

/** At `path`, signed in. */
async function visit(path: string, key: string, options: OpenOptions = {}): Promise<Visit> {
  const opened = await browser.open(options)
  await opened.page.goto(`${console}${path}`)
  await opened.page.getByLabel('Admin key').fill(key)
  await opened.page.keyboard.press('Enter')
  await opened.page.getByRole('navigation', { name: 'Pages' }).waitFor()
  return opened
}

/** Light and dark, narrow and wide: nobody is shut out, nothing hangs out, nothing breaks the policy. */
async function everyoneReads(t: Test, path: string, until: (page: Page) => Promise<void>) {
  const { page, troubles, checkAccess, close } = await visit(path, KEY)
  await until(page)
  for (const [colorScheme, width] of [
    ['light', 360],
    ['dark', 1600],
  ] as const) {
    await page.emulateMedia({ colorScheme })
    await page.setViewportSize({ width, height: 800 })
    t.strictSame(await checkAccess(), [], `${path} ${colorScheme} ${width}`)
    const isTooWide = await page.evaluate(
      'document.documentElement.scrollWidth > document.documentElement.clientWidth',
    )
    t.equal(isTooWide, false, 'nothing hangs out')
  }
  t.strictSame(troubles, [])
  await close()
}

t.test('the fleet shows gateways, replicas and busy tenants, and follows them', async t => {
  const { accessToken } = await world.login(world.acme)
  const headers = { authorization: `Bearer ${accessToken}` }
  const work = async () => {
    for (let i = 0; i < 10; i++) await world.call('/api/auth/profile', { headers })
  }
  await work()
  const { page, troubles, requests, close } = await visit('/fleet', readKey)
  const gateways = page.getByRole('region', { name: 'Gateways', exact: true })
  await gateways.getByText('ready').waitFor()
  t.equal(await gateways.getByRole('row').count(), 2, 'its head, and the one')
  const replicas = page.getByRole('region', { name: 'Replicas of the app' })
  for (const { origin } of world.apps) await replicas.getByText(origin).waitFor()
  t.equal(await replicas.getByText('healthy', { exact: true }).count(), 2)
  await page.getByText('All gateways answer').waitFor()
  const busiest = page.getByRole('region', { name: 'Busiest tenants' })
  await busiest.getByRole('link', { name: 'acme' }).waitFor()
  t.equal(
    await busiest.getByRole('link', { name: 'acme' }).getAttribute('href'),
    `/admin/tenants/${world.acme.id}`,
  )
  t.equal(await busiest.getByRole('link', { name: 'globex' }).count(), 0, 'it had no request')
  const asked = () => requests.filter(url => url.includes('/api/admin/fleet')).length
  const before = asked()
  const second = await world.startGateway()
  await show(page, 'visible')
  await page.getByText('2 gateways answer').waitFor({ timeout: WAIT_MS })
  t.ok(asked() > before, 'by itself')
  t.equal(await gateways.getByRole('row').count(), 3)
  await second.stop(0)
  await show(page, 'visible')
  await page.getByText(/Gateway .* did not answer/).waitFor({ timeout: WAIT_MS })
  await gateways.getByText('no answer').waitFor()
  await world.registrySql(
    "UPDATE gateway_instances SET heartbeat_at = now() - interval '10 minutes' WHERE address LIKE $1",
    [`%:${second.port}`],
  )
  await show(page, 'visible')
  await page.getByText(/ended without a word/).waitFor({ timeout: WAIT_MS })
  await world.registrySql('DELETE FROM gateway_instances WHERE address LIKE $1', [
    `%:${second.port}`,
  ])
  t.strictSame(troubles, [])
  await close()
})

t.test('what gateways and tenants call themselves is text on the fleet’s page', async t => {
  const id = randomUUID()
  await world.registrySql(
    `INSERT INTO gateway_instances (id, host, pid, worker, address, version, started_at, heartbeat_at)
      VALUES ($1, $2, 1, 0, $2, $2, now(), now() + interval '1 minute')`,
    [id, MARKUP],
  )
  await world.registrySql('UPDATE tenants SET name = $1 WHERE id = $2', [MARKUP, world.acme.id])
  const shown = async (page: Page) => {
    await page.getByText(`Gateway ${MARKUP} (1)`).waitFor()
    await page.getByRole('region', { name: 'Busiest tenants' }).getByText(MARKUP).waitFor()
    await page.getByText(`Gateways run 2 versions: 0.1.0, ${MARKUP}.`).waitFor()
    t.equal(await page.locator('img').count(), 0)
  }
  await everyoneReads(t, '/fleet', shown)
  await world.registrySql('DELETE FROM gateway_instances WHERE id = $1', [id])
})

t.test('an owner plans a run, starts it, reads why a tenant failed, and retries it', async t => {
  const { acme, globex } = world
  const fix = await breakLogin(globex.database)
  await emptyDatabase(acme.database)
  const { page, troubles, close } = await visit('/migrations/plan', KEY)
  await page.getByRole('button', { name: 'Ask the databases' }).click()
  const where = page.getByRole('region', { name: 'Where' })
  await where.getByRole('row').filter({ hasText: acme.key }).getByText('0001').waitFor()
  await where.getByRole('row').filter({ hasText: globex.key }).getByText('password').waitFor()
  await page.getByText('1 could not be asked').waitFor()
  await page.getByText('in 1 tenants').click()
  await page.getByText(/CREATE TABLE/).waitFor()
  await page.getByRole('link', { name: 'Migrations' }).last().click()

  await page.getByRole('button', { name: 'Start a run' }).click()
  const dialog = page.getByRole('dialog')
  await dialog.getByLabel('At a time', { exact: true }).fill('1000')
  await dialog.getByLabel('Tries more').fill('0')
  await dialog.getByRole('button', { name: 'Go on' }).click()
  await dialog.getByText('all tenants of the fleet').waitFor()
  await dialog.getByRole('button', { name: 'Start the run' }).click()
  await dialog.getByText('must be a whole number from 1 to 64').first().waitFor()
  t.equal((await runs()).length, 0, 'a refusal starts nothing')
  await dialog.getByLabel('At a time', { exact: true }).fill('2')
  await dialog.getByLabel('Stop after failures').fill('')
  await dialog.getByRole('button', { name: 'Go on' }).click()
  t.equal((await runs()).length, 0, 'nor does what was not confirmed')
  t.strictSame(await page.evaluate('document.activeElement.closest("dialog") !== null'), true)
  await dialog.getByRole('button', { name: 'Start the run' }).click()

  await page.getByText('done, with failures').waitFor({ timeout: RUN_MS })
  const failed = page.getByRole('region', { name: 'Failures' }).getByRole('row')
  await failed.filter({ hasText: globex.key }).getByText('28P01').first().waitFor()
  t.equal(await failed.count(), 2, 'its head, and the one')
  const first = page.url()
  await fix()
  await page.getByRole('button', { name: 'Retry what failed' }).click()
  await page.getByRole('button', { name: 'Start the retry' }).click()
  await page.waitForURL(url => url.href !== first)
  await page.getByText('done', { exact: true }).waitFor({ timeout: RUN_MS })
  await page.getByText('1 of 1 tenants').waitFor()
  t.equal((await runs()).length, 2)
  t.strictSame(troubles, [])
  await close()
})

t.test('a run is followed as it goes, after a pause from where it was, and cancelled', async t => {
  // Whichever comes first waits there.
  const held = await Promise.all(
    world.tenants.map(async ({ database }) => {
      await emptyDatabase(database)
      return holdDatabase(database)
    }),
  )
  const release = () => Promise.all(held.map(end => end()))
  t.teardown(release)
  const owner = await visit('/migrations', KEY)
  const reader = await visit('/migrations', readKey)
  await reader.page.getByRole('link', { name: 'Plan' }).waitFor()
  t.equal(await reader.page.getByRole('button', { name: 'Start a run' }).count(), 0)
  const { page } = owner
  await page.getByRole('button', { name: 'Start a run' }).click()
  await page.getByLabel('Tenants', { exact: true }).fill(`${world.acme.key}, ${world.globex.key}`)
  await page.getByLabel('At a time', { exact: true }).fill('1')
  await page.getByRole('button', { name: 'Go on' }).click()
  await page.getByText('The databases of 2 tenants').waitFor()
  await page.getByRole('button', { name: 'Start the run' }).click()
  await page.getByText('running', { exact: true }).waitFor({ timeout: RUN_MS })
  await reader.page.goto(page.url())
  await reader.page.getByText('running', { exact: true }).waitFor()
  t.equal(await reader.page.getByRole('button', { name: 'Cancel the run' }).count(), 0)

  await show(page, 'hidden')
  const again = page.waitForRequest(request => request.url().endsWith('/events'))
  await show(page, 'visible')
  t.match((await again).headers()['last-event-id'], /^\d+-\d+$/)
  await page.getByRole('button', { name: 'Cancel the run' }).click()
  await page.getByRole('dialog').getByRole('button', { name: 'Cancel the run' }).click()
  await page.getByText('cancelling', { exact: true }).waitFor()
  await release()
  await page.getByText('cancelled', { exact: true }).waitFor({ timeout: RUN_MS })
  await page.getByText('1 left').waitFor()
  await page.getByRole('button', { name: 'Do what it left' }).waitFor()
  await reader.page.getByText('cancelled', { exact: true }).waitFor({ timeout: RUN_MS })
  t.equal(await reader.page.getByRole('button', { name: 'Do what it left' }).count(), 0)
  t.strictSame([...owner.troubles, ...reader.troubles], [])
  await Promise.all([owner.close(), reader.close()])
})

t.test(
  'what databases answer is text on the pages of migrations, which everyone can read',
  async t => {
    await world.registrySql('UPDATE migration_failures SET error = $1, code = $1', [MARKUP])
    await world.registrySql('UPDATE migration_runs SET started_by = $1, problem = $1', [MARKUP])
    await world.registrySql("UPDATE tenant_migrations SET state = 'failed', error = $1", [MARKUP])
    await world.registrySql('UPDATE tenants SET schema_version = $1', [MARKUP])
    const [failure] = await world.registrySql('SELECT run_id FROM migration_failures LIMIT 1')
    const shown = async (page: Page) => {
      await page.getByText(MARKUP).first().waitFor()
      t.equal(await page.locator('img').count(), 0)
    }
    await everyoneReads(t, '/migrations', shown)
    await everyoneReads(t, `/migrations/runs/${failure?.run_id}`, shown)
    await everyoneReads(t, '/migrations/plan', page => page.getByLabel('To version').waitFor())
  },
)

async function runs(): Promise<readonly unknown[]> {
  return world.registrySql('SELECT id FROM migration_runs WHERE started_by = $1', ['ADMIN_API_KEY'])
}

/** Nobody gets into that database until it is put right. */
async function breakLogin(database: string): Promise<() => Promise<unknown>> {
  const find = 'SELECT db_user FROM tenants WHERE db_name = $1'
  const [row] = await world.registrySql(find, [database])
  const [role] = await world.sql(
    'postgres',
    'SELECT rolpassword FROM pg_authid WHERE rolname = $1',
    [row?.db_user],
  )
  const set = (password: string) =>
    world.sql('postgres', `ALTER ROLE "${row?.db_user}" PASSWORD '${password}'`)
  await set(randomUUID())
  return () => set(String(role?.rolpassword))
}

/** So that all is to be done there. */
async function emptyDatabase(database: string): Promise<void> {
  const find = 'SELECT db_user FROM tenants WHERE db_name = $1'
  const [row] = await world.registrySql(find, [database])
  await world.sql(database, 'DROP SCHEMA public CASCADE')
  await world.sql(database, `CREATE SCHEMA public AUTHORIZATION "${row?.db_user}"`)
}

/** The runner waits there until it is released. */
async function holdDatabase(database: string): Promise<() => Promise<void>> {
  const client = new pg.Client({ connectionString: world.postgres.url(database) })
  client.on('error', () => {})
  await client.connect()
  await client.query(`SELECT pg_advisory_lock(hashtextextended('doorman_migrations', 0))`)
  let isHeld = true
  return async () => {
    if (isHeld) await client.end()
    isHeld = false
  }
}

/** As when the operator goes to another tab, and comes back. */
async function show(page: Page, state: 'visible' | 'hidden'): Promise<void> {
  await page.evaluate(
    `Object.defineProperty(document, 'visibilityState', { value: '${state}', configurable: true });
    document.dispatchEvent(new Event('visibilitychange'))`,
  )
}
