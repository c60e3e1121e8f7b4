import { randomBytes } from 'node:crypto'
import pg from 'pg'
import type { Locator } from 'playwright-core'
import t from 'tap'
import { until } from '../../gateway/test-kit.ts'
import { createDatabases } from '../local/databases.ts'
import { DEMO_PASSWORD } from '../local/demo-tenants.ts'
import { startConsoleWorld } from './console/test-kit.ts'

/*
 * What an operator does with tenants in the console, in a real Chromium, and what tenants then see.
 */
const { world, admin, visit, close } = await startConsoleWorld()
t.teardown(close)
const FAILED_MOVES = `SELECT FROM admin_audit
  WHERE tenant_id = $1 AND action = 'tenant.move' AND outcome = 'failed'`
const secret = () => randomBytes(24).toString('base64url')
const { acme, globex, postgres } = world
const whoami = async (tenant = acme) => {
  const { accessToken } = await world.login(tenant)
  return () => world.call('/api/whoami', { token: accessToken })
}
const idOf = async (key: string) => {
  const { items } = (await admin(`/tenants?q=${key}`)).result as { items: { id: string }[] }
  return items[0]?.id ?? ''
}

t.test('a tenant is suspended by keyboard with a reason, and activated again', async t => {
  const ask = await whoami()
  t.equal((await ask()).status, 200)
  const opened = await visit(`/tenants/${acme.id}`)
  const { page } = opened
  await page.getByRole('button', { name: 'Suspend…' }).focus()
  await page.keyboard.press('Enter')
  const dialog = page.getByRole('dialog', { name: 'Suspend: acme' })
  await dialog.waitFor()
  t.strictSame(await opened.checkAccess(), [], 'the dialog')
  await page.keyboard.press('Escape')
  await dialog.waitFor({ state: 'detached' })
  const focused = await page.evaluate('document.activeElement?.textContent')
  t.equal(focused, 'Suspend…', 'focus is back where it was')
  await page.keyboard.press('Enter')
  await page.keyboard.press('Tab')
  await page.keyboard.press('Tab')
  await page.keyboard.press('Enter')
  t.equal((await ask()).status, 200, 'nothing is done without a reason')
  await dialog.getByLabel('Reason').fill('invoice 42 is open')
  await Promise.all([
    // It stays for some seconds only.
    page.getByRole('status').getByText('acme: Tenant is suspended.').waitFor(),
    dialog.getByRole('button', { name: 'Suspend' }).click(),
  ])
  await page.getByText('“invoice 42 is open”').waitFor()
  await until(async () => (await ask()).code === 'TENANT_SUSPENDED')
  await page.getByRole('button', { name: 'Activate…' }).click()
  await page.getByRole('dialog').getByRole('button', { name: 'Activate' }).click()
  await page.getByRole('button', { name: 'Suspend…' }).waitFor()
  await until(async () => (await ask()).status === 200)
  await page.getByRole('link', { name: 'Audit' }).last().click()
  await page.getByText('tenant.suspend').waitFor()
  await page.getByText('“invoice 42 is open”').waitFor()
  t.strictSame(opened.troubles, [])
  await opened.close()
})

t.test('maintenance, a new password, and everyone signed out, from the menus', async t => {
  const ask = await whoami(globex)
  const opened = await visit('/tenants?q=globex')
  const { page } = opened
  const act = async (action: string, done: RegExp, reason = '') => {
    await page.getByRole('button', { name: 'Actions for globex' }).click()
    await page.getByRole('menuitem', { name: `${action}…` }).click()
    const dialog = page.getByRole('dialog')
    await dialog.getByLabel('Reason').fill(reason)
    await Promise.all([
      page.getByRole('status').getByText(done).waitFor(),
      dialog.getByRole('button', { name: action, exact: true }).click(),
    ])
  }
  await act('Rotate the password', /new password/)
  t.equal((await ask()).status, 200)
  await act('Maintenance', /is maintenance/, 'a larger disk')
  await until(async () => (await ask()).status === 503)
  await act('Activate', /is active/)
  await until(async () => (await ask()).status === 200)
  await act('Revoke all sessions', /revoked/)
  await until(async () => (await ask()).status === 401)
  await page.getByRole('button', { name: 'Actions for globex' }).click()
  const focused = () => page.evaluate('document.activeElement?.textContent')
  await until(async () => (await focused()) === 'Suspend…')
  await page.keyboard.press('ArrowDown')
  t.equal(await focused(), 'Maintenance…', 'arrows move in the menu')
  t.strictSame(await opened.checkAccess(), [])
  await page.keyboard.press('Escape')

  await page.getByLabel('Status').selectOption('active')
  await page.waitForURL(/status=active/)
  await page.getByRole('button', { name: 'Actions for globex' }).click()
  await page.getByRole('menuitem', { name: 'Suspend…' }).click()
  const reason = page.getByRole('dialog').getByLabel('Reason')
  await reason.fill('typed while the row goes')
  const json = { reason: 'by somebody else' }
  await admin(`/tenants/${globex.id}/maintenance`, { method: 'POST', json })
  await page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
  await page.getByText('No tenant matches.').waitFor()
  t.equal(await reason.inputValue(), 'typed while the row goes', 'a dialog outlives its row')
  await page.keyboard.press('Escape')
  t.equal((await admin(`/tenants/${globex.id}/activate`, { method: 'POST', json })).status, 200)
  await until(async () => (await world.login(globex)).accessToken !== '')
  t.strictSame(opened.troubles, [])
  await opened.close()
})

t.test('a tenant is registered: tested first, refused at the field, then served', async t => {
  const password = secret()
  world.leaks.plant('a typed password', password)
  await createDatabases(postgres, [{ name: 'typed', password }])
  const opened = await visit('/tenants/new')
  const { page } = opened
  await page.getByLabel('Register it').check()
  const fill = (label: string, value: string) => page.getByLabel(label, { exact: true }).fill(value)
  await fill('Tenant key *', 'Typed!')
  await fill('Host *', '127.0.0.1')
  await fill('Port', '99999999')
  await fill('Database *', 'typed')
  await fill('Role *', 'typed')
  await fill('Password *', 'not this one')
  await page.getByRole('button', { name: 'Register', exact: true }).click()
  const key = page.getByLabel('Tenant key *')
  await page.getByText('must be 1 to 63 of a-z').last().waitFor()
  t.equal(await key.getAttribute('aria-invalid'), 'true')
  t.equal(await page.getByLabel('Port').getAttribute('aria-invalid'), 'true')
  await until(async () => (await page.evaluate('document.activeElement?.name')) === 'tenant_key')
  t.strictSame(await opened.checkAccess(), [])
  await fill('Tenant key *', 'typed')
  await fill('Port', String(postgres.port))
  await page.getByRole('button', { name: 'Test the connection' }).click()
  await page.getByText('the database refuses this user and password').waitFor()
  t.equal(await idOf('typed'), '', 'nothing is saved')
  await fill('Password *', password)
  await page.getByRole('button', { name: 'Test the connection' }).click()
  await page.locator('.report').getByText('works').waitFor()
  await page.getByRole('button', { name: 'Register', exact: true }).click()
  await page.getByRole('heading', { name: 'typed' }).waitFor()
  const { status } = (await admin(`/tenants/${await idOf('typed')}`)).result
  t.equal(status, 'active')
  t.notOk((await page.content()).includes(password))
  t.strictSame(opened.troubles, [])
  await opened.close()
})

t.test('a tenant is made from nothing, and its first user signs in', async t => {
  const superuser = new URL(postgres.url('postgres'))
  const added = await admin('/database-hosts', {
    method: 'POST',
    json: {
      ...{ name: 'main', host: '127.0.0.1', port: postgres.port, admin_db: 'postgres' },
      admin_user: decodeURIComponent(superuser.username),
      admin_password: decodeURIComponent(superuser.password),
    },
  })
  t.equal(added.status, 201, added.text)
  const opened = await visit('/tenants/new')
  const { page } = opened
  await page.getByLabel('Make it').waitFor()
  await page.getByLabel('Tenant key *').fill('initech')
  await page.getByLabel('Email of the first user').fill('admin@initech.example')
  await page.getByRole('button', { name: 'Make the tenant' }).click()
  const password = (await page.locator('code.once').textContent()) ?? ''
  t.ok(password.length > 20)
  world.leaks.plant('a made password', password)
  t.strictSame(await opened.checkAccess(), [])
  await page.getByRole('link', { name: 'I have noted it' }).click()
  await page.getByRole('button', { name: 'Suspend…' }).waitFor({ timeout: 30_000 })
  const json = { tenant_key: 'initech', email: 'admin@initech.example', password }
  t.equal((await world.call('/api/auth/login', { method: 'POST', json })).status, 200)
  await page.goBack()
  t.notOk((await page.content()).includes(password), 'it is shown once')
  t.strictSame(opened.troubles, [])
  await opened.close()
})

t.test('a tenant that fails is named above the list, and its open breaker shows', async t => {
  const { accessToken: token } = await world.login(acme)
  const change = (db_port: number) =>
    admin(`/tenants/${acme.id}`, { method: 'PATCH', json: { db_port, verify: false } })
  t.equal((await change(1)).status, 200)
  const fails = async () => (await world.call('/api/projects', { token })).status === 503
  await until(fails)
  const opened = await visit('/tenants')
  const { page } = opened
  // Users try again and again, and so both are of now, however long it takes to come here.
  const shownWhileFailing = (shown: Locator) =>
    until(async () => (await fails()) && (await shown.count()) > 0, 60_000)
  await shownWhileFailing(page.getByText('Failing in the last minute'))
  t.match(await page.locator('.trouble').innerText(), /acme <?[\d.]+% of/)
  t.strictSame(await opened.checkAccess(), [])
  await page.locator('.trouble').getByRole('link', { name: 'acme' }).click()
  await page.getByRole('link', { name: 'Live' }).click()
  await shownWhileFailing(page.locator('.badge.bad').getByText('open'))
  t.equal((await change(postgres.port)).status, 200)
  t.strictSame(opened.troubles, [])
  await opened.close()
})

t.test(
  'a tenant is moved step by step, and stays where it was when it fails or is called off',
  async t => {
    const ask = await whoami(globex)
    const password = secret()
    world.leaks.plant('a password of a new place', password)
    await createDatabases(postgres, [{ name: 'farther', password }])
    const opened = await visit(`/tenants/${globex.id}`)
    const { page } = opened
    await page.getByRole('button', { name: 'More actions' }).click()
    await page.getByRole('menuitem', { name: 'Move…' }).click()
    const dialog = page.getByRole('dialog')
    const fields = { Host: '127.0.0.1', Port: postgres.port, Database: 'farther', Role: 'farther' }
    for (const [label, value] of Object.entries({ ...fields, Password: 'not this one' })) {
      await dialog.getByLabel(`${label} *`, { exact: true }).fill(String(value))
    }
    const look = dialog.getByRole('button', { name: 'See whether it can be done' })
    const move = dialog.getByRole('button', { name: 'Move it' })
    await look.click()
    await dialog.getByRole('alert').getByText('MOVE_FAILED').waitFor()
    await dialog.getByLabel('Password').fill(password)
    await dialog.getByLabel('Seconds').fill('60')
    await look.click()
    await dialog.getByText('It can be moved').waitFor()
    t.strictSame(await opened.checkAccess(), [], 'the question')
    await world.sql('farther', 'CREATE TABLE in_the_way (n integer)')
    await move.click()
    await dialog.getByRole('alert').getByText('not empty').waitFor()
    const place = async () => (await admin(`/tenants/${globex.id}`)).result.db_name
    t.equal(await place(), globex.database, 'a failure leaves it')
    await world.sql('farther', 'DROP TABLE in_the_way')

    // A lock of somebody else's is waited for: a moment in which it can be called off.
    const holder = new pg.Client({ connectionString: postgres.url(globex.database) })
    await holder.connect()
    await holder.query('BEGIN; LOCK TABLE users IN ROW EXCLUSIVE MODE')
    await look.click()
    await dialog.getByText('It can be moved').waitFor()
    await move.click()
    await dialog.locator('li.running').getByText('Lock its tables').waitFor()
    t.strictSame(await opened.checkAccess(), [], 'the steps')
    await page.keyboard.press('Escape')
    await page.keyboard.press('Escape')
    t.equal(await dialog.locator('li.running').count(), 1, 'nothing but its button calls it off')
    await dialog.getByRole('button', { name: 'Stop the move' }).click()
    await dialog.getByRole('alert').getByText('You have called it off').waitFor()
    await holder.query('ROLLBACK')
    await holder.end()
    await until(async () => (await ask()).status === 200)
    t.equal(await place(), globex.database)
    const failures = () => world.registrySql(FAILED_MOVES, [globex.id])
    await until(async () => (await failures()).length === 2)

    await look.click()
    await dialog.getByText('It can be moved').waitFor()
    await move.click()
    await page.getByRole('dialog', { name: 'globex has moved' }).waitFor()
    t.strictSame(await opened.checkAccess(), [], 'the report')
    await dialog.getByText('To open the old database again').click()
    await dialog.getByText(/GRANT/).waitFor()
    await dialog.getByRole('button', { name: 'Close', exact: true }).last().click()
    await page.getByText('farther').first().waitFor()
    t.equal(await place(), 'farther')
    await until(async () => (await ask()).status === 200)
    t.notOk((await page.content()).includes(password))
    t.strictSame(opened.troubles, [])
    await opened.close()
  },
)

t.test(
  'a debug log is switched on with a reason, shows until when, and is switched off',
  async t => {
    const opened = await visit(`/tenants/${acme.id}`)
    const { page } = opened
    await page.getByRole('button', { name: 'Debug…' }).click()
    const dialog = page.getByRole('dialog')
    await dialog.getByLabel('Minutes').fill('61')
    await dialog.getByLabel('Reason').fill('slow since noon')
    await dialog.getByRole('button', { name: 'Debug' }).click()
    await dialog.locator('.field.wrong').getByText('whole number from 1 to 60').waitFor()
    await dialog.getByLabel('Minutes').fill('5')
    await dialog.getByRole('button', { name: 'Debug' }).click()
    await page.getByText(/^debug until .*:/).waitFor()
    t.type((await admin(`/tenants/${acme.id}`)).result.debug_until, 'string')
    t.strictSame(await opened.checkAccess(), [])
    await page.getByRole('button', { name: 'End debug' }).click()
    await page.getByRole('button', { name: 'Debug…' }).waitFor()
    t.equal((await admin(`/tenants/${acme.id}`)).result.debug_until, null)
    t.strictSame(opened.troubles, [])
    await opened.close()
  },
)

t.test('an edit that somebody else overtook keeps what was typed and says what moved', async t => {
  const opened = await visit(`/tenants/${acme.id}/edit`)
  const { page } = opened
  const name = page.getByLabel('Name', { exact: true })
  await name.fill('Acme of the console')
  await page.getByLabel('Requests/s').fill('0')
  await page.getByRole('button', { name: 'Save' }).click()
  await page.getByLabel('Requests/s').and(page.locator('[aria-invalid]')).waitFor()
  await page.getByLabel('Requests/s').fill('25')
  const other = { db_pool_max: 7, name: 'Acme of the API' }
  await admin(`/tenants/${acme.id}`, { method: 'PATCH', json: other })
  await page.getByRole('button', { name: 'Save' }).click()
  await page.getByText('Somebody else has changed this tenant.').waitFor()
  t.match(await page.getByRole('alert').last().textContent(), /Acme of the API.*changed it too/)
  t.equal(await name.inputValue(), 'Acme of the console')
  t.equal(await page.getByLabel('Connections at most').inputValue(), '7', 'theirs is taken over')
  t.strictSame(await opened.checkAccess(), [])
  await page.getByRole('button', { name: 'Save' }).click()
  await page.getByRole('heading', { name: 'Acme of the console' }).waitFor()
  t.match((await admin(`/tenants/${acme.id}`)).result, {
    ...{ name: 'Acme of the console', db_pool_max: 7, limits: { requests_per_s: 25 } },
  })
  t.equal((await (await whoami())()).status, 200)
  t.strictSame(opened.troubles, [])
  await opened.close()
})

t.test('a tenant is archived, and deleted once its key is typed', async t => {
  const id = await idOf('initech')
  const opened = await visit(`/tenants/${id}`)
  const { page } = opened
  await page.getByRole('button', { name: 'More actions' }).click()
  await page.getByRole('menuitem', { name: 'Archive…' }).click()
  await page.getByRole('dialog').getByLabel('Reason').fill('moved away')
  await page.getByRole('dialog').getByRole('button', { name: 'Archive' }).click()
  await page.getByRole('button', { name: 'Take back…' }).waitFor()
  await page.getByRole('button', { name: 'More actions' }).click()
  await page.getByRole('menuitem', { name: 'Delete…' }).click()
  const dialog = page.getByRole('dialog')
  const button = dialog.getByRole('button', { name: 'Delete' })
  t.equal(await button.isDisabled(), true)
  await dialog.getByLabel('Type its key').fill('initec')
  t.equal(await button.isDisabled(), true)
  await dialog.getByLabel('Type its key').fill('initech')
  t.strictSame(await opened.checkAccess(), [])
  await button.click()
  await dialog.getByRole('alert').waitFor()
  t.equal((await admin(`/tenants/${id}`)).status, 200, 'not before its grace period')
  await dialog.getByLabel('Even before its grace period is over').check()
  await button.click()
  await page.getByRole('heading', { name: 'Tenants' }).waitFor()
  t.equal((await admin(`/tenants/${id}`)).status, 404)
  const json = { tenant_key: 'initech', email: 'admin@initech.example', password: DEMO_PASSWORD }
  t.equal((await world.call('/api/auth/login', { method: 'POST', json })).status, 401)
  await page.getByRole('link', { name: 'Audit' }).click()
  await page.getByPlaceholder('What').fill('tenant.delete')
  // The rows of before stand there until the answer comes.
  await until(async () => {
    const lines = await page.locator('tbody tr').allInnerTexts()
    return lines.length === 1 && /ADMIN_API_KEY\s+tenant\.delete\s+initech/.test(lines[0] ?? '')
  })
  t.strictSame(opened.troubles, [])
  await opened.close()
})
