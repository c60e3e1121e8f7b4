import type { Response } from 'playwright-core'
import t from 'tap'
import { until } from '../../gateway/test-kit.ts'
import type { Visit } from './browser.ts'
import { startConsoleWorld } from './console/test-kit.ts'

/*
 * The console as whoever looks at it has it: a real Chromium, the real gateway, an app, PostgreSQL.
 */
const { world, browser, key: KEY, base, admin, makeKey, visit, close } = await startConsoleWorld()
t.teardown(close)
const { acme, globex } = world
const TENANTS_MANY = 10_000

t.test('an operator signs in by keyboard, sees the tenants, and signs out', async t => {
  const opened = await browser.open()
  const { page, context, troubles } = opened
  await page.goto(`${base}/tenants?status=active`)
  // Keys that come before the form is there go nowhere.
  await page.locator('[name=key]:focus').waitFor()
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
  await page.locator('[name=key]:focus').waitFor()
  t.strictSame(await context.cookies(), [])
  await page.reload()
  await page.getByLabel('Admin key').waitFor()
  t.strictSame(troubles, [])
  await opened.close()
})

t.test('a session that ends elsewhere asks for the key and goes on where it was', async t => {
  const opened = await visit('/tenants')
  const { page, troubles } = opened
  // As slowly as the page asks: no letter is taken back by an answer.
  await page.getByRole('searchbox').pressSequentially('glob', { delay: 260 })
  await page.waitForURL(/q=glob/)
  await page.getByRole('button', { name: 'Actions for globex' }).click()
  await page.getByRole('menuitem', { name: 'Suspend…' }).click()
  const reason = page.getByRole('dialog', { name: 'Suspend: globex' }).getByLabel('Reason')
  await reason.fill('typed before')
  const again = await endSession(opened)
  t.strictSame(await opened.checkAccess(), [], 'the form over the page')
  const isCovered = await page.evaluate(`[...Array(64).keys()].every(i => document
    .elementFromPoint(innerWidth * (i % 8 + 0.5) / 8, innerHeight * (Math.floor(i / 8) + 0.5) / 8)
    .closest('dialog.sign-in'))`)
  t.equal(isCovered, true, 'nothing of the page shows')
  await page.keyboard.press('Escape')
  await page.keyboard.press('Escape')
  t.equal(await again.count(), 1, 'and nothing but a key closes it')
  await signInAgain(opened, KEY)
  t.equal(await reason.inputValue(), 'typed before')
  await page.locator('textarea:focus').waitFor()
  await page.keyboard.press('Escape')
  await page.getByRole('link', { name: 'globex' }).waitFor()
  t.match(page.url(), /q=glob/)
  t.equal(await page.getByRole('link', { name: 'acme' }).count(), 0)
  t.strictSame(troubles, [])
  await opened.close()
})

t.test(
  'what was typed outlives a session, for an hour and for who signs in with the same key',
  async t => {
    const opened = await visit(`/tenants/${acme.id}/edit`)
    const { page, troubles } = opened
    const name = page.getByLabel('Name', { exact: true })
    const password = page.getByLabel('Password', { exact: true })
    await name.fill('Typed before')
    await password.fill('typed before')
    await world.registrySql('DELETE FROM admin_sessions')
    const save = page.getByRole('button', { name: 'Save' })
    await save.click()
    await page.getByText('Your session has ended.').waitFor()
    await signInAgain(opened, KEY)
    t.equal(await name.inputValue(), 'Typed before')
    t.equal(await password.inputValue(), 'typed before')
    const kept = await page.evaluate(
      'JSON.stringify([localStorage, sessionStorage, history.state])',
    )
    t.equal(kept, '[{},{},null]', 'it was in no storage meanwhile')
    await password.fill('')
    await save.click()
    await page.getByRole('heading', { name: 'Typed before' }).waitFor()
    t.match((await admin(`/tenants/${acme.id}`)).result, { name: 'Typed before' })

    await page.getByRole('link', { name: 'Edit' }).click()
    await name.fill('Of somebody else')
    await world.registrySql('DELETE FROM admin_sessions')
    await save.click()
    await page.getByText('Your session has ended.').waitFor()
    await signInAgain(opened, await makeKey('colleague', 'operate'))
    t.equal(await name.inputValue(), 'Typed before', 'the form is read anew')

    await name.fill('Left behind')
    await page.clock.install()
    await world.registrySql('DELETE FROM admin_sessions')
    await save.click()
    await page.getByText('Your session has ended.').waitFor()
    await page.clock.fastForward('59:00')
    t.equal(await name.count(), 1, 'it is held for an hour')
    await page.clock.fastForward('02:00')
    await page.getByText('Your session has ended a while ago.').waitFor()
    t.equal(await name.count(), 0, 'and no longer')
    t.strictSame(troubles, [])
    await opened.close()
  },
)

/** What the page asks for by itself meets it: nobody has to click. */
async function endSession({ page }: Visit) {
  await world.registrySql('DELETE FROM admin_sessions')
  const note = page.getByText('Your session has ended.')
  await note.waitFor()
  return note
}

async function signInAgain({ page }: Visit, key: string): Promise<void> {
  await page.getByLabel('Admin key').fill(key)
  await page.keyboard.press('Enter')
  await page.getByText('Your session has ended.').waitFor({ state: 'detached' })
}

/** Pages with something on each that is there once it is shown. */
const PAGES = [
  ['/tenants', 'tbody tr'],
  ['/tenants/new', 'fieldset.card'],
  [`/tenants/${acme.id}`, '.trend'],
  [`/tenants/${acme.id}/live`, 'tbody tr'],
  [`/tenants/${acme.id}/usage`, '.chart'],
  [`/tenants/${acme.id}/audit`, 'tbody details'],
  [`/tenants/${acme.id}/edit`, 'fieldset.card'],
  ['/audit', 'tbody details'],
  ['/nothing/here', 'h1'],
] as const

t.test('every page can be read by everyone, light and dark, narrow and wide', async t => {
  for (const [scheme, width] of [
    ['light', 1600],
    ['dark', 360],
  ] as const) {
    const opened = await visit('/tenants', KEY, { scheme, width })
    const { page } = opened
    for (const [path, shown] of PAGES) {
      await page.goto(`${base}${path}`)
      await page.locator(shown).first().waitFor()
      t.strictSame(await opened.checkAccess(), [], `${path} ${scheme}`)
      const isTooWide = await page.evaluate(
        'document.documentElement.scrollWidth > document.documentElement.clientWidth',
      )
      t.equal(isTooWide, false, `${path}: nothing hangs out at ${width}`)
    }
    t.strictSame(opened.troubles, [])
    await opened.close()
  }
})

t.test('a key that may only read sees all and is offered nothing to do', async t => {
  const reader = await makeKey('reader', 'read')
  const opened = await visit('/tenants', reader)
  const { page } = opened
  await page.getByRole('link', { name: 'acme' }).waitFor()
  const ACTIONS = /add|suspend|edit|actions|delete|rotate|archive|save|register|make|activate/i
  const offered = async () => [
    ...(await page.getByRole('button', { name: ACTIONS }).all()),
    ...(await page.getByRole('main').getByRole('link', { name: ACTIONS }).all()),
  ]
  t.equal((await offered()).length, 0)
  for (const [path, shown] of PAGES) {
    await page.goto(`${base}${path}`)
    await page
      .locator(/new$|edit$/.test(path) ? 'h1' : shown)
      .first()
      .waitFor()
    t.equal((await offered()).length, 0, path)
  }
  const status = await page.evaluate(
    `fetch('/api/admin/tenants/${acme.id}/suspend', { method: 'POST',
      headers: { 'x-doorman-console': '1', 'content-type': 'application/json' }, body: '{}' }).then(r => r.status)`,
  )
  t.equal(status, 403, 'and the API refuses it in any case')
  t.strictSame(opened.troubles, [])
  await opened.close()
})

t.test('what tenants and operators write is text on every page, and never runs', async t => {
  const evil = (n: number) =>
    `"'><img src=x${n} onerror=pwned()><svg onload=pwned()><script>pwned()</script>`
  const reason = evil(0)
  await admin(`/tenants/${globex.id}/suspend`, { method: 'POST', json: { reason } })
  // As an older tool, or SQL by hand, may have left it.
  await world.registrySql(
    `UPDATE tenants SET name = $2, db_host = $3, db_name = $4, db_user = $5, bucket_name = $6,
      bucket_region = $7, schema_version = $8, app_url = $9, bucket_endpoint = $9 WHERE id = $1`,
    [globex.id, ...Array.from({ length: 7 }, (_, i) => evil(i + 1)), 'javascript:pwned()'],
  )
  await world.registrySql(
    `INSERT INTO admin_audit (actor, action, tenant_id, tenant_key, reason, before, after)
      VALUES ($2, $3, $1, $4, $5, $6, $6)`,
    [globex.id, evil(8), evil(9), evil(10), evil(11), JSON.stringify({ [evil(12)]: evil(13) })],
  )
  const opened = await visit('/tenants')
  const { page } = opened
  await page.exposeFunction('pwned', () => opened.page.evaluate('console.error("it ran")'))
  let shown = 0
  for (const [path, ready] of PAGES) {
    await page.goto(`${base}${path.replace(acme.id, globex.id)}`)
    await page.locator(ready).first().waitFor()
    await page.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true })")
    shown += ((await page.locator('main').innerText()).match(/onerror=pwned\(\)/g) ?? []).length
    const made = await page.locator('main img, main svg[onload], main script, [onerror]').count()
    t.equal(made, 0, path)
    t.equal(await page.locator('a[href^="javascript:" i]').count(), 0, path)
  }
  t.ok(shown > 20, `it stands there as text, ${shown} times`)
  await page.goto(
    `${base}/tenants?q=${encodeURIComponent(evil(20))}&sort=${encodeURIComponent(evil(21))}`,
  )
  await page.getByRole('alert').waitFor()
  t.equal(await page.locator('main img').count(), 0)
  await page.goto(`${base}/tenants/${encodeURIComponent(evil(22))}`)
  await page.getByRole('alert').waitFor()
  t.equal(await page.locator('main img').count(), 0)
  t.strictSame(opened.troubles, [])
  await opened.close()
})

t.test('the policy is in force: what would run is refused, and the test would notice', async t => {
  const opened = await visit('/tenants')
  const { page, troubles } = opened
  await page.getByRole('link', { name: 'acme' }).waitFor()
  const ran = await page.evaluate(`(() => {
    try { document.body.innerHTML = '<p>x</p>'; return 'markup' } catch {}
    const script = document.createElement('script')
    try { script.text = 'window.ran = true' } catch { return 'refused' }
    document.body.append(script)
    return window.ran ? 'ran' : 'refused'
  })()`)
  t.equal(ran, 'refused')
  await page.evaluate("fetch('http://127.0.0.1:1/').catch(() => {})")
  // The browser tells of them on its own time: markup and scripts, requests to elsewhere.
  await until(() => troubles.some(text => /TrustedHTML|TrustedScript/.test(text)))
  await until(() => troubles.some(text => /connect-src/.test(text)))
  await opened.close()
})

t.test('ten thousand tenants are a page at a time, in a few small answers', async t => {
  await world.registrySql(
    `INSERT INTO tenants (tenant_key, name, mode, status, db_host, db_port, db_name, db_user, db_password_encrypted)
      SELECT 'many-' || lpad(n::text, 5, '0'), 'Many ' || n, 'shared', 'active', '127.0.0.1', 5432,
        'db_' || n, 'role_' || n, 'v1.x' FROM generate_series(1, $1) AS n`,
    [TENANTS_MANY],
  )
  const opened = await visit('/tenants')
  const { page, requests } = opened
  await page.getByText('many-00001').first().waitFor()
  await page.locator('td.traffic .figure').first().waitFor()
  // What is asked again by the clock is none of it.
  const asked = new Set(requests.filter(line => line.includes('/api/admin/')))
  t.ok(asked.size <= 6, [...asked].join('\n'))
  t.equal(await page.locator('tbody tr').count(), 50)
  const answers = new Map<string, Response>()
  page.on('response', answer => {
    if (answer.url().includes('/api/admin/')) answers.set(answer.url(), answer)
  })
  const startedAt = performance.now()
  await page.reload()
  await page.getByText('many-00001').first().waitFor()
  const usableMs = Math.round(performance.now() - startedAt)
  const bodies = await Promise.all([...answers.values()].map(answer => answer.body()))
  const bytes = bodies.reduce((sum, body) => sum + body.length, 0)
  t.comment(`usable after ${usableMs} ms, ${bytes} bytes of answers`)
  t.ok(bytes > 10_000 && bytes < 150_000, `${bytes} bytes`)
  await page.getByText(/^10,00\d tenants$/).waitFor()
  await page.getByRole('button', { name: 'Next' }).click()
  await page.getByText('many-00060').first().waitFor()
  t.equal(await page.locator('tbody tr').count(), 50)
  await page.getByRole('button', { name: 'Previous' }).click()
  await page.getByText('many-00001').first().waitFor()
  await page.getByRole('searchbox').fill('many-0999')
  await page.getByText('10 tenants').waitFor()
  await page.getByRole('button', { name: 'Tenant' }).click()
  await page.locator('tbody tr').first().getByText('many-09999').waitFor()
  await page.getByLabel('Status').selectOption('suspended')
  await page.getByText('No tenant matches.').waitFor()
  t.match(page.url(), /q=many-0999&status=suspended&sort=-tenant_key$/, 'an address to share')
  t.strictSame(opened.troubles, [])
  await opened.close()
})
