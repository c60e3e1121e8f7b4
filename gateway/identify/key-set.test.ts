import t from 'tap'
import { Fault } from '../../registry/lib/errors.ts'
import { type PublicKey, readJwks } from './jwks.ts'
import { KeySet, RELOAD_PAUSE_MS } from './key-set.ts'
import { codeOf, makeSigner } from './test-kit.ts'

const REFRESH_MS = 300_000
const STALE_MS = 3_600_000
const a = makeSigner('ES256', 'a')
const b = makeSigner('EdDSA', 'b')

/** A key set whose clock and whose source the test moves by hand. */
function setUp() {
  const world = {
    nowMs: 1_000_000,
    jwks: [a.jwk] as unknown[],
    isDown: false,
    /** When set, a read ends only when `release` is called. */
    isHeld: false,
    held: [] as (() => void)[],
    loads: 0,
    failures: [] as string[],
    release() {
      for (const go of world.held.splice(0)) go()
    },
  }
  const set = new KeySet({
    load: async () => {
      world.loads++
      if (world.isHeld) await new Promise<void>(resolve => world.held.push(resolve))
      if (world.isDown) throw new Error('provider is down')
      return readJwks(JSON.stringify({ keys: world.jwks }))
    },
    unavailable: reason => new Fault('ISSUER_UNAVAILABLE', reason),
    onFailure: reason => world.failures.push(reason),
    times: { refreshMs: REFRESH_MS, staleMs: STALE_MS },
    now: () => world.nowMs,
  })
  const find = (kid = 'a') => set.find(kid, kid === 'b' ? 'EdDSA' : 'ES256')
  return { world, set, find }
}

const settled = () => new Promise<void>(resolve => setTimeout(resolve, 5))

t.test('keys are read once for all that ask, and kept', async t => {
  const { world, set, find } = setUp()
  const keys = await Promise.all(Array.from({ length: 50 }, () => find()))
  t.equal(world.loads, 1)
  t.equal(new Set(keys).size, 1)
  world.nowMs += REFRESH_MS - 1
  t.equal(await find(), keys[0])
  t.ok(set.vouches(keys[0] as PublicKey))
  t.equal(world.loads, 1)
})

t.test('a key is good for its own kid and algorithm alone', async t => {
  const { find, set } = setUp()
  t.equal((await find('a')).kid, 'a')
  t.equal(await codeOf(() => set.find('a', 'RS256')), 'TOKEN_INVALID')
  t.equal(await codeOf(() => set.find('A', 'ES256')), 'TOKEN_INVALID')
})

t.test('an unknown kid reads the keys again, at most once in ten seconds', async t => {
  const { world, find } = setUp()
  await find()
  const flood = async () => {
    const codes = new Set<string>()
    for (let i = 0; i < 200; i++) codes.add(await codeOf(() => find(`made-up-${i}`)))
    t.strictSame([...codes], ['TOKEN_INVALID'])
  }
  await flood()
  t.equal(world.loads, 1, 'not within the pause after the first read')
  world.nowMs += RELOAD_PAUSE_MS
  await flood()
  t.equal(world.loads, 2)
  world.nowMs += RELOAD_PAUSE_MS
  world.jwks = [a.jwk, b.jwk]
  t.equal((await find('b')).kid, 'b', 'a rotated key is found')
  t.equal(world.loads, 3)
})

t.test('keys in use are read again beside their use, and nobody waits', async t => {
  const { world, set, find } = setUp()
  const key = await find()
  world.nowMs += REFRESH_MS
  world.isHeld = true
  t.ok(set.vouches(key))
  t.equal(await find(), key)
  t.equal(world.loads, 2)
  world.isHeld = false
  world.release()
  await settled()
  world.nowMs += REFRESH_MS
  t.ok(set.vouches(key), 'an unchanged key goes on to count')
})

t.test('a key that is gone from the set vouches for nothing any more', async t => {
  const { world, set, find } = setUp()
  const key = await find()
  world.jwks = [b.jwk]
  world.nowMs += REFRESH_MS
  t.ok(set.vouches(key), 'until it is read again')
  await settled()
  t.notOk(set.vouches(key))
  t.equal(await codeOf(() => find('a')), 'TOKEN_INVALID')
})

t.test('another key under the same kid vouches for nothing that the first one proved', async t => {
  const { world, set, find } = setUp()
  const key = await find()
  world.jwks = [makeSigner('ES256', 'a').jwk]
  world.nowMs += REFRESH_MS
  set.vouches(key)
  await settled()
  t.notOk(set.vouches(key))
  t.not(await find(), key)
})

t.test('keys that nobody used for long are read before they are used', async t => {
  const { world, set, find } = setUp()
  const key = await find()
  world.jwks = [b.jwk]
  world.nowMs += 2 * REFRESH_MS
  t.notOk(set.vouches(key))
  t.equal(await codeOf(() => find('a')), 'TOKEN_INVALID')
  t.equal(world.loads, 2)
})

t.test('a provider that is down: stale keys for an hour, then nothing is accepted', async t => {
  const { world, set, find } = setUp()
  const key = await find()
  const readAtMs = world.nowMs
  world.isDown = true
  while (world.nowMs + RELOAD_PAUSE_MS < readAtMs + STALE_MS) {
    world.nowMs += RELOAD_PAUSE_MS
    if (!set.vouches(key)) throw new Error(`gone after ${world.nowMs - readAtMs} ms`)
    await settled()
  }
  t.ok(world.loads > 100, 'it was tried all the time')
  t.equal(await find(), key)
  t.equal(await codeOf(() => find('b')), 'ISSUER_UNAVAILABLE', 'it may be a new key')
  world.nowMs = readAtMs + STALE_MS
  t.notOk(set.vouches(key))
  t.equal(await codeOf(find), 'ISSUER_UNAVAILABLE')
  world.isDown = false
  world.nowMs += RELOAD_PAUSE_MS
  t.equal(await find(), key, 'and it recovers')
})

t.test('stale keys also serve whoever comes after a pause', async t => {
  const { world, find } = setUp()
  const key = await find()
  world.isDown = true
  world.nowMs += STALE_MS / 2
  t.equal(await find(), key)
  t.equal(world.loads, 2, 'after one attempt')
})

t.test('without any keys a failure is 503, and is not repeated at once', async t => {
  const { world, find } = setUp()
  world.isDown = true
  for (let i = 0; i < 20; i++) t.equal(await codeOf(find), 'ISSUER_UNAVAILABLE')
  t.equal(world.loads, 1)
  world.isDown = false
  world.nowMs += RELOAD_PAUSE_MS
  t.equal((await find()).kid, 'a')
})

t.test('requests that wait for a read are bounded', async t => {
  const { world, find } = setUp()
  world.isHeld = true
  const all = Array.from({ length: 600 }, () => codeOf(find))
  t.equal(await Promise.race(all), 'ISSUER_UNAVAILABLE')
  await settled()
  world.release()
  const codes = await Promise.all(all)
  t.equal(codes.filter(code => code === 'nothing thrown').length, 512)
  t.equal(world.loads, 1)
})

t.test('a closed set vouches for nothing', async t => {
  const { set, find } = setUp()
  const key = await find()
  set.close()
  t.notOk(set.vouches(key))
})
