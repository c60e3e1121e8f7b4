import { execFileSync } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { mkdirSync, mkdtempSync, rmSync, symlinkSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import t from 'tap'
import { until } from '../../gateway/test-kit.ts'
import { ROOT } from '../checks/sources.ts'
import { DEMO_PASSWORD } from '../local/demo-tenants.ts'
import { again, exitOf, makeSender, startBalancer } from './balancer.ts'
import { call } from './call.ts'
import { startLoad } from './load.ts'
import { type Binary, startWorld, type WorldTenant } from './test-kit.ts'

/*
 * An upgrade, and half of its way back, by processes of two versions beside each other, against the Registry and the
 * databases of the newer one. The older is a commit; a clone without history has none.
 */
const FROM = process.env.DOORMAN_UPGRADE_FROM || 'b85c931'
const older = checkOut(FROM)
const skip = older === null ? `no commit ${FROM} in this clone` : false

t.test('old and new versions side by side fail no request', { skip }, async t => {
  const { root, compiled } = older as Older
  const world = await startWorld({
    apps: 0,
    appEnv: { DRAIN_NOTICE_MS: '500' },
    gatewayEnv: { DRAIN_NOTICE_MS: '300', HEALTH_INTERVAL_MS: '100' },
  })
  t.teardown(world.close)
  const startOldApp = (given: NodeJS.ProcessEnv = {}) =>
    world.startApp({ ...given, NODE_COMPILE_CACHE: compiled }, root)
  const startOldGateway = (given: NodeJS.ProcessEnv) =>
    world.startGateway({ ...given, NODE_COMPILE_CACHE: compiled }, root)
  const apps = await Promise.all([startOldApp(), startOldApp()])
  const env = { APP_UPSTREAMS: apps.map(({ origin }) => origin).join(',') }
  const gateways = await Promise.all([startOldGateway(env), startOldGateway(env)])
  const balancer = startBalancer(gateways, 50)
  t.teardown(balancer.stop)

  const run = randomUUID()
  const made = new Map<WorldTenant, string[]>()
  let n = 0
  // As many at a time that no replica can have all of them: a tenant's first one serves up to its fair share.
  const tenants = [world.acme, world.globex, world.acme, world.globex]
  for (const tenant of tenants) made.set(tenant, [])
  const lanes = await Promise.all(
    tenants.map(async tenant => {
      const { accessToken } = await login(gateways[0], tenant)
      const send = makeSender(balancer.next)
      return startLoad(1, async () => {
        // A steady load, and no race with the processes that start.
        await delay(5)
        const name = `${run} ${n++}`
        const isPost = n % 3 === 0
        const answer = isPost
          ? await send('POST', '/api/projects', accessToken, { name })
          : await send('GET', '/api/whoami', accessToken)
        if (isPost && answer.status === 201) made.get(tenant)?.push(name)
        if (answer.status !== (isPost ? 201 : 200)) return `${answer.status} ${answer.text}`
        return isPost || answer.text.includes(`"${tenant.database}"`) ? null : answer.text
      })
    }),
  )
  const done = () => Math.min(...lanes.map(lane => lane.done))
  const replace = async (
    all: Binary[],
    i: 0 | 1,
    start: (env: NodeJS.ProcessEnv) => Promise<Binary>,
  ) => {
    const before = done()
    await exitOf(all[i] as Binary, t)
    all[i] = await again(PORT => start({ ...env, PORT }), all[i] as Binary)
    const served = await Promise.all(apps.map(servedBy))
    await until(() => done() >= before + 20, 20_000)
    for (const [j, app] of apps.entries()) {
      await until(async () => (await servedBy(app)) > Number(served[j]) + 5, 20_000)
    }
    // A login runs through all that the two sides agree on, and both gateways have to take its token.
    for (const gateway of gateways) await login(gateway, world.acme)
    t.strictSame(
      lanes.flatMap(({ failures }) => failures),
      [],
      `replaced: ${all[i]?.name} ${i}`,
    )
  }
  await until(() => done() >= 20, 20_000)
  // Both orders of an upgrade: first an old app behind a new gateway, then a new app behind an old one.
  await replace(gateways, 0, given => world.startGateway(given))
  await replace(apps, 0, ({ PORT }) => world.startApp({ PORT }))
  await replace(apps, 1, ({ PORT }) => world.startApp({ PORT }))
  await replace(gateways, 1, given => world.startGateway(given))
  // And back: a new Registry serves what is taken back.
  await replace(gateways, 0, startOldGateway)
  await replace(apps, 0, ({ PORT }) => startOldApp({ PORT }))
  await Promise.all(lanes.map(lane => lane.stop()))
  for (const [tenant, names] of made) {
    t.ok(names.length > 20, `${names.length} POSTs of ${tenant.key}`)
    const text = 'SELECT name FROM projects WHERE name LIKE $1 ORDER BY name'
    const rows = await world.sql(tenant.database, text, [`${run}%`])
    const written = rows.map(({ name }) => name)
    t.strictSame(written, names.sort(), 'each was executed exactly once')
  }

  async function login({ origin }: Binary, { key, email }: WorldTenant) {
    // On a connection of its own: a kept one would lengthen each drain by a second.
    const json = { tenant_key: key, email, password: DEMO_PASSWORD }
    const { status, result } = await call(origin, '/api/auth/login', { method: 'POST', json })
    t.equal(status, 200)
    return result as { accessToken: string }
  }
})

async function servedBy({ adminOrigin }: Binary): Promise<number> {
  const { text } = await call(adminOrigin, '/metrics')
  const counts = [...text.matchAll(/^doorman_app_requests_total\{.*\} (\d+)$/gm)]
  return counts.reduce((sum, [, count]) => sum + Number(count), 0)
}

interface Older {
  readonly root: string
  /** What V8 compiled of it: not with that of this version, where nobody would ever remove it. */
  readonly compiled: string
}

/** The files of a commit in a folder of their own, with the packages that are installed here; null where it is not there. */
function checkOut(commit: string): Older | null {
  const git = (...args: readonly string[]) =>
    execFileSync('git', ['-C', ROOT, ...args], { stdio: ['ignore', 'pipe', 'ignore'] })
  const folder = mkdtempSync(join(tmpdir(), 'doorman-older-'))
  t.teardown(() => rmSync(folder, { recursive: true, force: true }))
  try {
    git('cat-file', '-e', `${commit}^{commit}`)
    const archive = join(folder, 'archive.tar')
    git(
      'archive',
      '--format=tar',
      `--output=${archive}`,
      commit,
      'app',
      'gateway',
      'registry',
      'migrations',
      'package.json',
    )
    const root = join(folder, 'doorman')
    mkdirSync(root)
    execFileSync('tar', ['-xf', archive, '-C', root])
    symlinkSync(join(ROOT, 'node_modules'), join(root, 'node_modules'))
    return { root, compiled: join(folder, 'compiled') }
  } catch {
    return null
  }
}
