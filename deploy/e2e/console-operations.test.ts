import { randomUUID } from 'node:crypto'
import { text } from 'node:stream/consumers'
import pg from 'pg'
import type { Page } from 'playwright-core'
import t, { type Test } from 'tap'
import { until } from '../../gateway/test-kit.ts'
import { startConsoleWorld } from './console/test-kit.ts'

/*
 * The pages of the console that are about the whole installation, as an operator uses them: a real Chromium, the real
 * gateway, two replicas, PostgreSQL.
 */
const { world, base, key: KEY, admin, makeKey, visit, close } = await startConsoleWorld({ apps: 2 })
t.teardown(close)
const WAIT_MS = 15_000
/** A runner is a process. */
const RUN_MS = 30_000
/** Runs wherever it becomes markup, and is a text that can be looked for. */
const MARKUP = '<img src=x onerror=alert(1)>'
const readKey = await makeKey('reader', 'read')

type Shown = readonly [path: string, until: (page: Page) => Promise<void>]

/** Light and dark, narrow and wide: nobody is shut out, nothing hangs out, nothing breaks the policy. */
async function everyoneReads(t: Test, pages: readonly Shown[]) {
  const { page, troubles, checkAccess, close } = await visit('/tenants')
  for (const [path, until] of pages) {
    await page.goto(`${base}${path}`)
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
  }
  t.strictSame(troubles, [])
  await close()
}

/** The busiest tenants are those of the last minute. */
async function keepBusy(): Promise<void> {
  const { accessToken: token } = await world.login(world.acme)
  for (let i = 0; i < 10; i++) await world.call('/api/auth/profile', { token })
}

t.test('the fleet shows gateways, replicas and busy tenants, and follows them', async t => {
  await keepBusy()
  const { page, troubles, requests, close } = await visit('/fleet', readKey)
  const gateways = page.getByRole('region', { name: 'Gateways', exact: true })
  await gateways.getByText('ready').waitFor()
  t.equal(await gateways.getByRole('row').count(), 2, 'its head, and the one')
  const replicas = page.getByRole('region', { name: 'Replicas of the app' })
  for (const { origin } of world.apps) await replicas.getByText(origin).waitFor()
  const healthy = replicas.getByText('healthy', { exact: true })
  await until(async () => (await healthy.count()) === 2)
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
    await keepBusy()
    await show(page, 'visible')
    await page.getByText(`Gateway ${MARKUP} (1)`).waitFor()
    await page.getByRole('region', { name: 'Busiest tenants' }).getByText(MARKUP).waitFor()
    await page.getByText(`Gateways run 2 versions: 0.1.0, ${MARKUP}.`).waitFor()
    t.equal(await page.locator('img').count(), 0)
  }
  await everyoneReads(t, [['/fleet', shown]])
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
  await page.getByText('in 1 tenant').click()
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
  await dialog.getByRole('button', { name: 'Start the run' }).click()

  // The list of runs says how one stands too.
  await page.waitForURL(/\/runs\//)
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
  await page.getByText('1 of 1 tenant').waitFor()
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
  await page.waitForURL(/\/runs\//)
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
    await everyoneReads(t, [
      ['/migrations', shown],
      [`/migrations/runs/${failure?.run_id}`, shown],
      ['/migrations/plan', page => page.getByLabel('To version').waitFor()],
    ])
  },
)

t.test(
  'an owner sets prices once it is said what comes of them, each refusal at its field',
  async t => {
    const { page, troubles, ...owner } = await visit('/billing/prices')
    await page.getByRole('button', { name: 'Set prices' }).click()
    const dialog = page.getByRole('dialog')
    await dialog.getByLabel('From month').fill('2024-01')
    await dialog.getByRole('button', { name: 'Add a line' }).click()
    await dialog.getByLabel('Included').fill('1000')
    await dialog.getByLabel('Per *', { exact: true }).fill('1,000')
    await dialog.getByRole('button', { name: 'Add a step' }).click()
    await dialog.getByLabel('Step 1 up to').fill('0')
    await dialog.getByLabel('Step 1 price').fill('1')
    await dialog.getByLabel('Step 2 price').fill('50')
    const goOn = dialog.getByRole('button', { name: 'Go on' })
    const set = dialog.getByRole('button', { name: 'Set the prices' })
    await goOn.click()
    await dialog.getByRole('alert').getByText('EUR 0.00 a month and 1 line of usage').waitFor()
    t.equal((await lists()).length, 0, 'nothing before it is confirmed')
    await set.click()
    await dialog.locator('[name="prices.lines.0.per"]:focus').waitFor()
    const wrong = dialog.locator('.field.wrong')
    await wrong.filter({ hasText: 'Per' }).getByText('such as "0.25"').waitFor()
    await wrong.filter({ hasText: 'Step 1 up to' }).getByText('must be above 0').waitFor()
    t.equal(await wrong.count(), 2)
    t.strictSame(await owner.checkAccess(), [], 'the form')
    await dialog.getByRole('button', { name: 'Remove step 1' }).click()
    await dialog.getByLabel('Per *', { exact: true }).fill('1000')
    await goOn.click()
    await set.click()
    await page.getByText('50 minor units of EUR per 1000, 1000 included').waitFor()
    t.match(await lists(), [{ plan: '*', created_by: 'ADMIN_API_KEY' }])

    await page.getByRole('button', { name: 'Edit prices of * from 2024-01' }).click()
    t.equal(await dialog.getByLabel('Price *', { exact: true }).inputValue(), '50')
    await dialog.getByLabel('Base fee').fill('900')
    const [theirs] = (await admin('/prices')).result.items as Record<string, never>[]
    const { plan, from_month, currency, prices } = theirs ?? {}
    const json = { plan, from_month, currency, prices: { ...Object(prices), base_fee: 700 } }
    t.equal((await admin('/prices', { method: 'POST', json })).status, 200)
    await goOn.click()
    await set.click()
    await dialog.getByText('Somebody else has changed the price list').waitFor()
    t.equal(await dialog.getByLabel('Base fee').inputValue(), '900', 'what was typed stays')
    await page.keyboard.press('Escape')
    await page.getByText('EUR 7.00').waitFor()
    await page.getByRole('button', { name: 'Edit prices of * from 2024-01' }).click()
    await dialog.getByLabel('Base fee').fill('0')
    await goOn.click()
    await set.click()
    await page.getByText('EUR 0.00').waitFor()

    await page.getByRole('button', { name: 'Add a plan' }).click()
    await dialog.getByLabel('Code').fill('silver')
    await dialog.getByLabel('Requests/s').fill('0')
    await dialog.getByRole('button', { name: 'Save' }).click()
    await dialog.locator('[name="limits.requests_per_s"]:focus').waitFor()
    await dialog.getByLabel('Requests/s').fill('5')
    await dialog.getByRole('button', { name: 'Save' }).click()
    await page.getByText('requests_per_s: 5').waitFor()
    await page.getByRole('button', { name: 'Edit plan silver' }).click()
    await dialog.getByLabel('Weight').fill('3')
    await dialog.getByRole('button', { name: 'Save' }).click()
    // The page has the new version too: what is removed is what stands there.
    const silver = page.getByRole('row', { name: /silver/ })
    await silver.getByRole('cell', { name: '3', exact: true }).waitFor()
    t.equal((await admin('/plans/silver')).result.weight, 3)
    await page.getByRole('button', { name: 'Remove plan silver' }).click()
    await dialog.getByRole('button', { name: 'Remove' }).click()
    await page.getByText('There is no plan').waitFor()

    const reader = await visit('/billing/prices', readKey)
    await reader.page.getByText('50 minor units').waitFor()
    t.equal(await reader.page.getByRole('main').getByRole('button').count(), 0)
    t.strictSame([...troubles, ...reader.troubles], [])
    await Promise.all([owner.close(), reader.close()])
  },
)

t.test('a credit is given once it is said what it costs, and only by an owner', async t => {
  const path = `/tenants/${world.acme.id}/usage`
  const reader = await visit(path, await makeKey('operator', 'operate'))
  await reader.page.getByText('It was given none.').waitFor()
  t.equal(await reader.page.getByRole('button', { name: 'Give a credit' }).count(), 0)
  const { page, troubles, ...owner } = await visit(path)
  await page.getByRole('button', { name: 'Give a credit' }).click()
  const dialog = page.getByRole('dialog')
  t.equal(await dialog.getByLabel('Currency').inputValue(), 'EUR', 'that of its prices')
  await dialog.getByLabel('Amount').fill('25')
  await dialog.getByLabel('Currency').fill('USD')
  await dialog.getByLabel('Reason').fill('a day without mail')
  await dialog.getByRole('button', { name: 'Go on' }).click()
  await dialog.getByRole('button', { name: 'Give USD 0.25' }).click()
  await dialog.getByText('must be that of its prices: EUR').first().waitFor()
  await dialog.getByLabel('Currency').fill('EUR')
  await dialog.getByRole('button', { name: 'Go on' }).click()
  await dialog.getByText('EUR 0.25 is taken off the next statement').waitFor()
  t.equal((await credits()).length, 0, 'nothing before it is confirmed')
  t.strictSame(await owner.checkAccess(), [], 'the question')
  await dialog.getByRole('button', { name: 'Give EUR 0.25' }).click()
  const row = page.getByRole('row').filter({ hasText: 'a day without mail' })
  await row.getByText('the next one').waitFor()
  t.match(await credits(), [{ amount_minor: '25' }])
  t.strictSame([...troubles, ...reader.troubles], [])
  await Promise.all([owner.close(), reader.close()])
})

t.test('an owner freezes a month, reads its lines, and takes them away as a file', async t => {
  const formula = '=HYPERLINK("http://elsewhere.example")'
  const now = new Date()
  // Not the last one: it cannot be frozen in the first hour of the next.
  const middle = new Date(Date.UTC(now.getUTCFullYear(), now.getUTCMonth() - 2, 15))
  const month = middle.toISOString().slice(0, 7)
  await world.registrySql('UPDATE tenants SET name = $1', [formula])
  for (const { id } of world.tenants) {
    await world.registrySql(
      'INSERT INTO customer_usage_daily (tenant_id, date, api_requests) VALUES ($1, $2, 3000)',
      [id, `${month}-15`],
    )
  }
  const reader = await visit(`/billing/statements?month=${month}`, readKey)
  await reader.page.getByText('No statement of').waitFor()
  t.equal(await reader.page.getByRole('button', { name: /Freeze/ }).count(), 0)
  await reader.close()

  const { page, troubles, ...owner } = await visit(`/billing?month=${month}`)
  await page.getByRole('button', { name: `Show the statement of ${world.acme.key}` }).click()
  const dialog = page.getByRole('dialog')
  await dialog.getByText('draft').waitFor()
  await dialog.getByRole('row').filter({ hasText: 'api_requests' }).getByText('EUR 1.00').waitFor()
  await page.keyboard.press('Escape')
  const chart = page.getByRole('figure').filter({ hasText: 'Tenants with use' })
  await chart.getByText('Table').click()
  await chart.getByRole('row').filter({ hasText: month }).getByText('2', { exact: true }).waitFor()
  await page.getByRole('link', { name: 'Statements' }).click()
  await page.getByRole('button', { name: `Freeze ${month}` }).click()
  t.equal((await statements()).length, 0, 'nothing before it is confirmed')
  await page
    .getByRole('dialog')
    .getByRole('button', { name: `Freeze ${month}` })
    .click()
  await page.getByText('2 statements: EUR 1.75').waitFor()
  t.equal((await statements()).length, 2)
  await page.getByRole('button', { name: `Lines of ${world.acme.key}` }).click()
  await dialog.getByText('frozen', { exact: true }).waitFor()
  await page.keyboard.press('Escape')
  const [file] = await Promise.all([
    page.waitForEvent('download'),
    page.getByRole('button', { name: 'CSV' }).click(),
  ])
  t.equal(file.suggestedFilename(), `statements-${month}.csv`)
  const csv = await text(await file.createReadStream())
  t.equal(csv.trim().split('\r\n').length, 6, 'names, two lines of each, and the credit')
  t.match(csv, `"'${formula.replaceAll('"', '""')}"`, 'no spreadsheet runs it')
  await page.getByRole('link', { name: 'Plans and prices' }).click()
  await page.getByText('50 minor units of EUR per 1000, 1000 included').waitFor()
  t.strictSame(troubles, [])
  await owner.close()
})

t.test('a database server is tried before it is saved, changed, and removed', async t => {
  const { hostname, port, username, password } = new URL(world.postgres.url('postgres'))
  const { page, troubles, ...owner } = await visit('/settings')
  await page.getByRole('button', { name: 'Add a server' }).click()
  const dialog = page.getByRole('dialog')
  const given = { Name: 'Wrong Name', Host: hostname, Port: port, Role: username, Password: 'x' }
  for (const [label, value] of Object.entries(given)) {
    await dialog.getByLabel(label, { exact: false }).first().fill(value)
  }
  await dialog.getByLabel('TLS').selectOption('disable')
  const save = dialog.getByRole('button', { name: 'Save' })
  await save.click()
  await dialog.getByText('must be of a-z, 0-9 and -').first().waitFor()
  await dialog.locator('[name=name]:focus').waitFor()
  await dialog.getByLabel('Name').fill('main')
  await dialog.getByLabel('Host').fill('127.0.0.1')
  await dialog.getByLabel('Port').fill('1')
  await save.click()
  await dialog.getByRole('alert').getByText('CONNECTION_TEST_FAILED').waitFor()
  t.equal((await hosts()).length, 0)
  await dialog.getByLabel('Port').fill(port)
  await dialog.getByLabel('Password').fill(decodeURIComponent(password))
  await save.click()
  const row = page.getByRole('row').filter({ hasText: `127.0.0.1:${port}` })
  await row.getByText('main').waitFor()
  t.equal((await hosts()).length, 1)
  await row.getByRole('button', { name: 'Edit main' }).click()
  await dialog.getByLabel('Database').fill('registry')
  await save.click()
  await row.getByText('by database registry').waitFor()
  const reader = await visit('/settings', readKey)
  await reader.page.getByText('main', { exact: true }).waitFor()
  t.equal(await reader.page.getByRole('main').getByRole('button').count(), 0)
  await reader.close()
  await row.getByRole('button', { name: 'Remove main' }).click()
  await dialog.getByRole('button', { name: 'Remove' }).click()
  await page.getByText('There is none').waitFor()
  t.equal((await hosts()).length, 0)
  t.strictSame(troubles, [])
  await owner.close()
})

t.test('what is billed, planned and set is text too, which everyone can read', async t => {
  await world.registrySql('UPDATE tenants SET name = $1', [MARKUP])
  await world.registrySql(
    "INSERT INTO plans (code, name, limits, weight) VALUES ('gold', $1, $2, 1)",
    [MARKUP, JSON.stringify({ [MARKUP]: MARKUP })],
  )
  const shown = async (page: Page) => {
    await page.getByText(MARKUP).first().waitFor()
    t.equal(await page.locator('img').count(), 0)
  }
  const [frozen] = await world.registrySql(
    "SELECT to_char(month, 'YYYY-MM') AS month FROM statements",
  )
  const lines = (page: Page) =>
    page.getByRole('button', { name: `Lines of ${world.acme.key}` }).waitFor()
  await everyoneReads(t, [
    ['/billing', shown],
    [
      '/billing/prices',
      async page => {
        await shown(page)
        await page.getByRole('button', { name: 'Edit prices of *' }).click()
        await page.getByRole('dialog').getByLabel('Base fee').waitFor()
      },
    ],
    [
      '/billing/prices',
      async page => {
        await page.getByRole('button', { name: 'Edit plan gold' }).click()
        await page.getByRole('dialog').getByLabel('Weight').waitFor()
      },
    ],
    ['/billing/prices', shown],
    [`/billing/statements?month=${frozen?.month}`, lines],
    ['/settings', page => page.getByText('There is none').waitFor()],
  ])
})

const lists = () => world.registrySql('SELECT plan, created_by FROM price_lists')
const credits = () => world.registrySql('SELECT amount_minor::text FROM billing_credits')
const statements = () => world.registrySql('SELECT tenant_id FROM statements')
const hosts = () => world.registrySql('SELECT name FROM database_hosts')

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
