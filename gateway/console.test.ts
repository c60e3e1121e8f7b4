import { randomBytes } from 'node:crypto'
import { request } from 'node:http'
import { gzipSync } from 'node:zlib'
import pg from 'pg'
import t from 'tap'
import { createAdminKey, revokeAdminKey } from '../registry/admin/keys.ts'
import { makeLog } from '../registry/lib/log.ts'
import { type RunningGateway, startGateway, startUpstream, startWorld } from './test-kit.ts'

/*
 * The console as it is served, and its sessions, at the real gateway. What its pages do in a browser is shown by
 * deploy/e2e/console.test.ts.
 */
const KEY = `marker-key-${randomBytes(24).toString('hex')}`
const FIRST_LOAD_BYTES_MAX = 150 * 1024

const [world, upstream] = await Promise.all([startWorld(), startUpstream()])
const env = { ...world.env, APP_UPSTREAMS: upstream.origin, ADMIN_API_KEY: KEY, LOG_LEVEL: 'trace' }
const [gateway, other] = await Promise.all([
  startGateway(env),
  // Another process with another first key: as after a change of the key.
  startGateway({ ...env, ADMIN_API_KEY: `${KEY}-of-tomorrow`, GATEWAY_WORKERS: '2' }),
])
const sql = new pg.Pool({ connectionString: world.registryUrl, max: 1 })
sql.on('error', () => {})
t.teardown(async () => {
  await Promise.all([gateway.stop(), other.stop()])
  upstream.close()
  await sql.end()
  await world.close()
})
const deps = { store: world.store, log: makeLog('test', 'silent') }
const owner = { name: 'test', scope: 'own', requestId: null } as const
const reader = await createAdminKey(deps, owner, 'reader', 'read')
/** What must be nowhere but in the browser. */
const secrets = [KEY, reader]

const CONSOLE = { 'x-doorman-console': '1' }

interface Answer {
  readonly status: number
  readonly headers: Readonly<Record<string, string | string[] | undefined>>
  readonly body: Buffer
  readonly json: { code?: string; result?: Record<string, unknown> | null }
}

/** Over node:http, for fetch() sets fields of its own, and hides cookies. */
function ask(
  path: string,
  { method = 'GET', headers = {}, body = '', at = gateway as RunningGateway } = {},
): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const call = request(`${at.internalUrl}${path}`, { method, headers }, res => {
      const chunks: Buffer[] = []
      res.on('data', chunk => chunks.push(chunk))
      res.on('end', () => {
        const read = Buffer.concat(chunks)
        const isJson = String(res.headers['content-type']).startsWith('application/json')
        const json = isJson ? JSON.parse(read.toString()) : {}
        resolve({ status: res.statusCode ?? 0, headers: res.headers, body: read, json })
      })
    })
    call.on('error', reject)
    call.end(body)
  })
}

/** A browser tells the origin with every POST. */
function ownOrigin(at: RunningGateway): Record<string, string> {
  return { ...CONSOLE, origin: at.internalUrl }
}

function signIn(key: string, headers?: Record<string, string>, at = gateway) {
  const type = { 'content-type': 'application/json' }
  const body = JSON.stringify({ key })
  const given = { method: 'POST', headers: { ...type, ...(headers ?? ownOrigin(at)) }, body, at }
  return ask('/api/admin/session', given)
}

/** The cookie as a browser sends it back. */
async function session(key: string, at = gateway): Promise<string> {
  const { headers } = await signIn(key, undefined, at)
  const [cookie = ''] = String(headers['set-cookie']).split(';')
  secrets.push(cookie.split('=')[1] ?? '')
  return cookie
}

function asConsole(cookie: string, path: string, more: Record<string, string> = {}, at = gateway) {
  return ask(`/api/admin${path}`, { headers: { cookie, ...CONSOLE, ...more }, at })
}

t.test('the console is one page without anything inline, and files that never change', async t => {
  t.match(await ask('/admin'), { status: 302, headers: { location: '/admin/tenants' } })
  const page = await ask('/admin/tenants')
  const html = page.body.toString()
  t.equal(page.status, 200)
  t.equal(page.headers['cache-control'], 'no-store')
  const policy = String(page.headers['content-security-policy'])
  t.match(policy, /default-src 'none'/)
  t.match(policy, /frame-ancestors 'none'/)
  t.match(policy, /require-trusted-types-for 'script'/)
  t.notMatch(policy, /unsafe|\*|https?:|data:/)
  t.match(page.headers, { 'x-content-type-options': 'nosniff', 'referrer-policy': 'no-referrer' })
  t.notMatch(html, /<script(?![^>]*\bsrc=)|<style|\sstyle=|\son\w+=|https?:\/\//)
  t.equal((await ask('/admin/fleet/anything')).body.toString(), html, 'one page for all addresses')
  const files = [...html.matchAll(/(?:href|src)="([^"]+)"/g)].map(([, file = '']) => file)
  t.ok(files.length > 10)
  let bytes = gzipSync(html).length
  for (const file of files) {
    const zipped = await ask(file, { headers: { 'accept-encoding': 'gzip' } })
    t.equal(zipped.status, 200, file)
    t.match(zipped.headers, {
      'content-encoding': 'gzip',
      'cache-control': 'public, max-age=31536000, immutable',
      'x-content-type-options': 'nosniff',
      vary: 'accept-encoding',
    })
    const plain = (await ask(file)).body.toString()
    t.notMatch(plain, /\b(?:localStorage|sessionStorage|indexedDB|document\.cookie)\b/, file)
    const foreign = /^(?:import|export)\b[^'"`;=(]*\bfrom\s*["'](?!\/admin\/assets\/)/m
    t.notMatch(plain, foreign, `${file}: imports are linked`)
    bytes += zipped.body.length
  }
  t.comment(`first load: ${bytes} bytes, gzip, in ${files.length + 1} files`)
  t.ok(bytes < FIRST_LOAD_BYTES_MAX, `${bytes} bytes`)
  const [script = ''] = files.filter(file => file.endsWith('.js'))
  const brotli = await ask(script, { headers: { 'accept-encoding': 'gzip, deflate, br' } })
  t.equal(brotli.headers['content-encoding'], 'br')
  t.equal((await ask(script, { method: 'HEAD' })).body.length, 0)
  t.equal((await ask('/admin/assets/main.AAAAAAAAAAAA.js')).status, 404)
  t.equal((await ask('/admin/assets/../../package.json')).status, 404)
  t.equal((await ask('/admin/tenants', { method: 'POST' })).status, 405)
})

t.test('signing in gives a cookie that no script reads, and no key', async t => {
  const plain = await signIn(KEY)
  t.equal(plain.status, 200)
  t.match(plain.json.result, { name: 'ADMIN_API_KEY', scope: 'own' })
  const pattern = /^doorman_session=[\w-]{43}; Path=\/; HttpOnly; SameSite=Strict$/
  t.match(String(plain.headers['set-cookie']), pattern)
  t.equal(plain.headers['cache-control'], 'no-store')
  const origin = { origin: 'https://console.example', host: 'console.example', ...CONSOLE }
  const secure = await signIn(KEY, origin)
  const cookie = String(secure.headers['set-cookie'])
  t.match(cookie, /^__Host-doorman_session=[\w-]{43}; Path=\/; HttpOnly; SameSite=Strict; Secure$/)
  const [pair = ''] = cookie.split(';')
  t.equal((await asConsole(pair, '/whoami')).status, 200)
  const renamed = pair.replace('__Host-', '')
  t.equal((await asConsole(renamed, '/whoami')).status, 401, 'not under the name that anyone sets')
  const wrong = await signIn(`${KEY}x`)
  t.match(wrong, { status: 401, json: { code: 'ADMIN_KEY_INVALID' } })
  t.equal(wrong.headers['set-cookie'], undefined)
  t.equal((await ask('/api/admin/session', { headers: CONSOLE })).json.result, null)
})

t.test('a session may do what its key may', async t => {
  const cookie = await session(reader)
  t.match(await asConsole(cookie, '/session'), {
    json: { result: { name: 'reader', scope: 'read' } },
  })
  t.equal((await asConsole(cookie, '/tenants')).status, 200)
  t.match(await asConsole(cookie, '/keys'), {
    status: 403,
    json: { code: 'ADMIN_SCOPE_TOO_NARROW' },
  })
  const { rows } = await sql.query<{ actor: string }>(
    "SELECT actor FROM admin_audit WHERE action = 'console.sign_in' ORDER BY id DESC LIMIT 1",
  )
  t.match(rows, [{ actor: 'reader' }], 'the audit tells of the sign-in')
})

t.test('a cookie opens nothing for a page that is not the console', async t => {
  const cookie = await session(KEY)
  const { host } = new URL(gateway.internalUrl)
  const refused = { status: 403, json: { code: 'ADMIN_ORIGIN_REFUSED' } }
  const tenants = (headers: Record<string, string>, method = 'GET') =>
    ask('/api/admin/tenants', { method, headers: { cookie, ...headers } })
  t.match(await tenants({}), refused, 'a link, a form, an image')
  t.match(await tenants({ 'content-type': 'text/plain' }, 'POST'), refused)
  for (const site of ['cross-site', 'same-site', 'none']) {
    t.match(await tenants({ ...CONSOLE, 'sec-fetch-site': site }), refused, site)
  }
  for (const origin of [
    'https://evil.example',
    'http://127.0.0.1:1',
    'null',
    `https://x.${host}`,
  ]) {
    t.match(await tenants({ ...CONSOLE, origin }, 'POST'), refused, origin)
  }
  t.match(await tenants(CONSOLE, 'POST'), refused, 'a change without a word of its origin')
  t.match(await signIn(KEY, {}), refused, 'nor is anyone signed in by it')
  t.match(await signIn(KEY, { ...CONSOLE, 'sec-fetch-site': 'same-site' }), refused)
  const own = { ...CONSOLE, origin: `http://${host}` }
  t.match(await tenants({ ...own, 'sec-fetch-site': 'same-origin' }, 'POST'), { status: 400 })
  t.match(await tenants(own, 'POST'), { status: 400 }, 'over plain HTTP from another machine')
  const preflight = await ask('/api/admin/tenants', {
    method: 'OPTIONS',
    headers: {
      origin: 'https://evil.example',
      'access-control-request-headers': 'x-doorman-console',
    },
  })
  t.equal(preflight.headers['access-control-allow-origin'], undefined)
  t.equal(
    (await ask('/api/admin/tenants', { headers: { authorization: `Bearer ${KEY}` } })).status,
    200,
  )
})

t.test('a session ends by time, and what the page asks by itself does not keep it', async t => {
  const ended = { status: 401, json: { code: 'ADMIN_SESSION_ENDED' } }
  const age = (column: string, ms: number) =>
    sql.query(`UPDATE admin_sessions SET ${column} = ${column} - $1 * interval '1 ms'`, [ms])
  const seen = async () => {
    const { rows } = await sql.query<{ s: string }>(
      'SELECT max(seen_at)::text AS s FROM admin_sessions',
    )
    return rows[0]?.s
  }
  const cookie = await session(reader)
  await age('seen_at', 1_700_000)
  const before = await seen()
  t.equal((await asConsole(cookie, '/tenants', { 'x-doorman-console': 'poll' })).status, 200)
  t.equal(await seen(), before, 'a poll leaves it as old as it was')
  t.equal((await asConsole(cookie, '/tenants')).status, 200)
  t.not(await seen(), before, 'a person does not')
  await age('seen_at', 1_900_000)
  t.match(await asConsole(cookie, '/tenants'), ended, 'half an hour without anyone')
  const second = await session(reader)
  await age('created_at', 43_300_000)
  t.match(await asConsole(second, '/tenants'), ended, 'half a day')
  await session(reader)
  const { rows } = await sql.query('SELECT FROM admin_sessions')
  t.equal(rows.length, 1, 'what has ended is swept away')
})

t.test('signing out ends a session at every gateway, and so does the end of its key', async t => {
  const ended = { status: 401, json: { code: 'ADMIN_SESSION_ENDED' } }
  const cookie = await session(reader)
  t.equal(
    (await asConsole(cookie, '/whoami', {}, other)).status,
    200,
    'it is good at the other too',
  )
  const { host } = new URL(gateway.internalUrl)
  const headers = { cookie, ...CONSOLE, origin: `http://${host}` }
  const out = await ask('/api/admin/session', { method: 'DELETE', headers })
  t.match(out, { status: 200, headers: { 'set-cookie': [/^doorman_session=; .*Max-Age=0$/] } })
  for (const at of [gateway, other]) t.match(await asConsole(cookie, '/whoami', {}, at), ended)
  const first = await session(KEY)
  t.equal((await asConsole(first, '/whoami')).status, 200)
  t.match(await asConsole(first, '/whoami', {}, other), ended, 'the first key is another one there')
  const last = await session(reader)
  await revokeAdminKey(deps, owner, 'reader')
  t.match(await asConsole(last, '/whoami'), ended)
  t.match(await signIn(reader), { status: 401, json: { code: 'ADMIN_KEY_INVALID' } })
})

t.test('a key has so many sessions and no more, and ends none of another key', async t => {
  const guest = await createAdminKey(deps, owner, 'guest', 'read')
  const first = await session(KEY)
  const oldest = await session(guest)
  await sql.query(
    `INSERT INTO admin_sessions (id_hash, is_secure, admin_key_id, created_at)
      SELECT 'filler ' || n, false, (SELECT id FROM admin_keys WHERE name = 'guest'),
        clock_timestamp() + n * interval '1 ms' FROM generate_series(1, 49) AS n`,
  )
  t.equal((await asConsole(oldest, '/whoami')).status, 200, 'the fiftieth')
  const newest = await session(guest)
  t.equal((await asConsole(oldest, '/whoami')).status, 401)
  for (const cookie of [first, newest]) t.equal((await asConsole(cookie, '/whoami')).status, 200)
})

t.test('neither the Registry nor a log holds a key or what a cookie holds', async t => {
  const { rows } = await sql.query<{ text: string }>(
    `SELECT (SELECT string_agg(s::text, ' ') FROM admin_sessions s)
      || (SELECT string_agg(a::text, ' ') FROM admin_audit a) AS text`,
  )
  const seen = `${rows[0]?.text} ${JSON.stringify([gateway.log, other.log])}`
  t.ok(secrets.length > 6)
  for (const secret of secrets) t.notOk(seen.includes(secret))
})

t.test('who tries sessions or keys, or signs in without end, is slowed down', async t => {
  const busy = await createAdminKey(deps, owner, 'busy', 'read')
  const statuses: number[] = []
  for (let i = 0; i < 24; i++) statuses.push((await signIn(busy)).status)
  t.strictSame([...new Set(statuses)], [200, 429])
  const cookie = `doorman_session=${randomBytes(32).toString('base64url')}`
  const codes = new Set<unknown>()
  for (let i = 0; i < 24; i++) codes.add((await asConsole(cookie, '/whoami', {}, other)).json.code)
  t.strictSame([...codes], ['ADMIN_SESSION_ENDED', 'ADMIN_LIMITED'])
  codes.clear()
  for (let i = 0; i < 24; i++) codes.add((await signIn('wrong', undefined, other)).json.code)
  t.strictSame([...codes], ['ADMIN_KEY_INVALID', 'ADMIN_LIMITED'])
})
