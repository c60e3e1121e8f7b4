import { randomBytes, randomUUID } from 'node:crypto'
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
  for (const [scheme, width] of [
    ['light', 360],
    ['dark', 1600],
  ] as const) {
    const opened = await visit(path, KEY, { scheme, width })
    await until(opened.page)
    t.strictSame(await opened.checkAccess(), [], `${path} ${scheme} ${width}`)
    const isTooWide = await opened.page.evaluate(
      'document.documentElement.scrollWidth > document.documentElement.clientWidth',
    )
    t.equal(isTooWide, false, 'nothing hangs out')
    t.strictSame(opened.troubles, [])
    await opened.close()
  }
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
  await page.getByText('2 gateways answer').waitFor({ timeout: WAIT_MS })
  t.ok(asked() > before, 'by itself')
  t.equal(await gateways.getByRole('row').count(), 3)
  await second.stop(0)
  await page.getByText(/Gateway .* did not answer/).waitFor({ timeout: WAIT_MS })
  await gateways.getByText('no answer').waitFor()
  await world.registrySql(
    "UPDATE gateway_instances SET heartbeat_at = now() - interval '10 minutes' WHERE address LIKE $1",
    [`%:${second.port}`],
  )
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
