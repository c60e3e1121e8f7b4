import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import t from 'tap'
import { call } from './call.ts'
import { LeakWatch } from './leak-watch.ts'
import { spellingsOf } from './spellings.ts'
import { startWorld } from './test-kit.ts'

const SECRET = 'marker+of/a "secret" ?&é'

t.test('a secret is found in every spelling, and nothing is found where there is none', async t => {
  const bytes = randomBytes(32)
  for (const secret of [SECRET, bytes]) {
    const raw = Buffer.from(secret as string)
    const written: Record<string, string> = {
      'hex of it': raw.toString('hex'),
      'hex in capitals': raw.toString('hex').toUpperCase(),
      'a Buffer shown': `<Buffer ${raw.toString('hex').replace(/(..)(?=.)/g, '$1 ')}>`,
      'a Buffer as JSON': JSON.stringify({ data: raw }),
      ...(typeof secret === 'string' && {
        plain: secret,
        'in JSON': JSON.stringify({ secret }),
        'in JSON in JSON': JSON.stringify(JSON.stringify({ secret })),
        'in a query': `?a=b&c=${encodeURIComponent(secret)}&d`,
        'in a form': new URLSearchParams({ a: secret }).toString(),
      }),
    }
    for (const before of ['', 'a', 'ab', 'abc']) {
      const longer = Buffer.concat([Buffer.from(before), raw, Buffer.from('yz')])
      written[`base64 behind ${before}`] = longer.toString('base64')
      written[`base64url behind ${before}`] = longer.toString('base64url')
    }
    for (const [name, text] of Object.entries(written)) {
      const watch = new LeakWatch()
      watch.plant('a secret', secret)
      watch.note('elsewhere', 'nothing here')
      watch.note('a log', `{"msg":"before ${text} after"}`)
      const [leak, ...more] = watch.findLeaks()
      t.match(leak, { secret: 'a secret', where: 'a log' }, name)
      t.strictSame(more, [])
      t.notMatch(leak?.before, text, 'the report does not show it')
    }
  }
  const watch = new LeakWatch()
  watch.plant('a secret', SECRET)
  watch.note('a log', SECRET.slice(1))
  watch.note('a log', SECRET.slice(0, -1))
  t.strictSame(watch.findLeaks(), [])
  t.ok(spellingsOf(bytes).size > 8)
})

t.test('a client’s own secret may stand in a good answer to it, and nowhere else', async t => {
  for (const [audience, place, leaks] of [
    ['its client', 'good body', 0],
    ['its client', 'output', 1],
    ['nobody', 'good body', 1],
    ['nobody', 'output', 1],
  ] as const) {
    const watch = new LeakWatch()
    watch.plant('a secret', SECRET, audience)
    watch.note('somewhere', SECRET, place)
    t.equal(watch.findLeaks().length, leaks, `${audience}: ${place}`)
  }
  const watch = new LeakWatch()
  watch.plant('a key', SECRET)
  watch.plant('the same, sent by a client', SECRET, 'its client')
  watch.note('somewhere', SECRET, 'good body')
  t.equal(watch.findLeaks().length, 1, 'what nobody may see stays so')
})

t.test('the end of a world fails where a real process or answer leaked', async t => {
  const world = await startWorld({ apps: 0 })
  t.teardown(world.close)
  const say = (what: string) =>
    `--import=data:text/javascript,process.std${what}.write(${encodeURIComponent(
      'Buffer.from(process.env.JWT_SECRET_ACCESS_TOKEN).toString("hex")',
    )})`
  const [out] = await Promise.all([
    world.startApp({ NODE_OPTIONS: say('out') }),
    world.startApp({ NODE_OPTIONS: say('err') }),
  ])
  const password = 'a password that comes back'
  const server = createServer((request, response) => {
    const isGood = request.url === '/good'
    response.writeHead(isGood ? 200 : 401, { 'x-debug': world.acme.password })
    response.end(request.url === '/bad' ? Buffer.from(password).toString('base64') : '')
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => server.close())
  const origin = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  await call(origin, '/bad', { method: 'POST', json: { password } })
  await call(origin, '/good', { token: `a.b.${'c'.repeat(43)}` })
  await out.stop(5000)
  world.leaks.note('/metrics', `requests{tenant="${world.keys.masterKey}"} 1`)
  const error = await world.close().then(
    () => null,
    (thrown: Error) => thrown,
  )
  t.match(error?.message, 'secrets leaked')
  for (const name of [
    'JWT_SECRET_ACCESS_TOKEN',
    'a member password',
    'database password of acme',
    'MASTER_ENCRYPTION_KEY',
  ]) {
    t.match(error?.message, `"${name}"`)
  }
  t.notMatch(error?.message, world.keys.jwtAccess)
  t.notMatch(error?.message, 'database password of globex')
})
