import { randomBytes } from 'node:crypto'
import t from 'tap'
import { startBrowser, type Visit } from './browser.ts'
import { startWorld } from './test-kit.ts'

/*
 * The console as an operator uses it: a real Chromium, the real gateway, two replicas, PostgreSQL.
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
const console = `${world.gateway.adminOrigin}/admin`

/** At `path`, signed in. */
async function visit(path: string, key: string, options = {}): Promise<Visit> {
  const opened = await browser.open(options)
  await opened.page.goto(`${console}${path}`)
  await opened.page.getByLabel('Admin key').fill(key)
  await opened.page.keyboard.press('Enter')
  await opened.page.getByRole('navigation', { name: 'Pages' }).waitFor()
  return opened
}

t.test('an operator signs in by keyboard, sees the tenants, and signs out', async t => {
  const opened = await browser.open()
  const { page, context, troubles } = opened
  await page.goto(`${console}/tenants?status=active`)
  await page.keyboard.type('not the key')
  await page.keyboard.press('Enter')
  await page.getByText('The gateway does not know this key.').waitFor()
  t.strictSame(await opened.checkAccess(), [])
  await page.getByLabel('Admin key').fill(KEY)
  await page.keyboard.press('Enter')
  await page.getByRole('link', { name: 'acme' }).waitFor()
  t.match(page.url(), /\/admin\/tenants\?status=active$/, 'where the operator wanted to be')
  await page.getByRole('link', { name: 'globex' }).waitFor()
  const [cookie] = await context.cookies()
  t.match(cookie, { name: 'doorman_session', httpOnly: true, sameSite: 'Strict', path: '/' })
  const kept = await page.evaluate(
    'JSON.stringify([localStorage, sessionStorage, document.cookie])',
  )
  t.equal(kept, '[{},{},""]', 'scripts find nothing')
  t.notOk((await page.content()).includes(KEY))
  t.notOk(page.url().includes(KEY))
  await page.reload()
  await page.getByRole('link', { name: 'acme' }).waitFor()
  await page.getByRole('button', { name: 'Sign out' }).click()
  await page.getByText('You are signed out.').waitFor()
  t.strictSame(await context.cookies(), [])
  await page.reload()
  await page.getByLabel('Admin key').waitFor()
  t.strictSame(troubles, [])
  await opened.close()
})

t.test('a session that ends elsewhere asks for the key and goes on where it was', async t => {
  const { page, troubles, close } = await visit('/tenants', KEY)
  await page.getByRole('link', { name: 'acme' }).waitFor()
  await world.registrySql('DELETE FROM admin_sessions')
  await page.getByRole('searchbox').fill('glob')
  await page.getByText('Your session has ended.').waitFor()
  await page.getByLabel('Admin key').fill(KEY)
  await page.keyboard.press('Enter')
  await page.getByRole('link', { name: 'globex' }).waitFor()
  t.match(page.url(), /q=glob/)
  t.equal(await page.getByRole('link', { name: 'acme' }).count(), 0)
  t.strictSame(troubles, [])
  await close()
})

t.test('every page can be read by everyone, light and dark, narrow and wide', async t => {
  for (const scheme of ['light', 'dark'] as const) {
    for (const width of [360, 1600]) {
      const opened = await visit('/tenants', KEY, { scheme, width })
      await opened.page.getByRole('link', { name: 'acme' }).waitFor()
      t.strictSame(await opened.checkAccess(), [], `${scheme} ${width}`)
      const isTooWide = await opened.page.evaluate(
        'document.documentElement.scrollWidth > document.documentElement.clientWidth',
      )
      t.equal(isTooWide, false, 'nothing hangs out')
      t.strictSame(opened.troubles, [])
      await opened.close()
    }
  }
})
