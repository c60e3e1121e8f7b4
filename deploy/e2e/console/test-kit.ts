import { randomBytes } from 'node:crypto'
import { type OpenOptions, startBrowser, type TestBrowser, type Visit } from '../browser.ts'
import { type Answer, type CallOptions, call } from '../call.ts'
import { startWorld, type World, type WorldOptions } from '../test-kit.ts'

/** The whole system with a browser in front of its console. */
export interface ConsoleWorld {
  readonly world: World
  readonly browser: TestBrowser
  /** The first admin key. */
  readonly key: string
  /** Of the console's pages. */
  readonly base: string
  /** The admin API with the first key. @param path below /api/admin */
  admin(path: string, options?: CallOptions): Promise<Answer>
  /** A new named key. */
  makeKey(name: string, scope: 'read' | 'operate'): Promise<string>
  /** At `path` of the console, signed in. */
  visit(path: string, key?: string, options?: OpenOptions): Promise<Visit>
  close(): Promise<void>
}

export async function startConsoleWorld(options: WorldOptions = {}): Promise<ConsoleWorld> {
  const key = `admin-${randomBytes(24).toString('hex')}`
  const [worlds, browsers] = await Promise.allSettled([
    startWorld({ apps: 1, ...options, gatewayEnv: { ADMIN_API_KEY: key, ...options.gatewayEnv } }),
    startBrowser(),
  ])
  if (worlds.status === 'rejected' || browsers.status === 'rejected') {
    // The one that started leaves nothing behind.
    if (worlds.status === 'fulfilled') await worlds.value.close()
    if (browsers.status === 'fulfilled') await browsers.value.close()
    throw new AggregateError(
      [worlds, browsers].map(one => Object(one).reason),
      'no world',
    )
  }
  const { value: world } = worlds
  const { value: browser } = browsers
  world.leaks.plant('admin key', key)
  const { adminOrigin } = world.gateway
  const base = `${adminOrigin}/admin`
  return {
    ...{ world, browser, key, base },
    admin: (path, given) => call(adminOrigin, `/api/admin${path}`, { token: key, ...given }),
    async makeKey(name, scope) {
      const { stdout, output } = await world.cli(['admin-key', 'create', name, '--scope', scope])
      const made = /adk_[\w-]{43}/.exec(stdout)?.[0]
      if (made === undefined) throw new Error(output)
      return made
    },
    async visit(path, as = key, given = {}) {
      const opened = await browser.open(given)
      await opened.page.goto(`${base}${path}`)
      await opened.page.getByLabel('Admin key').fill(as)
      await opened.page.keyboard.press('Enter')
      await opened.page.getByRole('navigation', { name: 'Pages', exact: true }).waitFor()
      return opened
    },
    async close() {
      try {
        await browser.close()
      } finally {
        await world.close()
      }
    },
  }
}
