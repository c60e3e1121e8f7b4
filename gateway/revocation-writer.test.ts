import t from 'tap'
import { Fault } from '../registry/lib/errors.ts'
import { makeLog } from '../registry/lib/log.ts'
import type { TenantId } from '../registry/tenant.ts'
import type { Revocation } from '../registry/token-id.ts'
import { RevocationWriter } from './revocation-writer.ts'
import { until } from './test-kit.ts'

const TENANT = '00000000-0000-4000-8000-00000000000a' as TenantId
const inAnHourS = Math.floor(Date.now() / 1000) + 3600
const one = (id: string, expiresAtS = inAnHourS): Revocation => ({
  tenantId: TENANT,
  tokenId: id,
  expiresAtS,
})
const down = () => new Fault('REGISTRY_UNAVAILABLE', 'down')

/** A Registry that answers when the test says so. */
function setUp() {
  const world = {
    batches: [] as (readonly string[])[],
    answers: [] as ((error?: Error) => void)[],
    isDown: false,
    isHeld: false,
  }
  const writer = new RevocationWriter({
    log: makeLog('test', 'silent'),
    backoffMaxMs: 5,
    async write(revocations) {
      world.batches.push(revocations.map(({ tokenId }) => tokenId))
      if (world.isDown) throw down()
      if (world.isHeld) {
        await new Promise<void>((resolve, reject) => {
          world.answers.push(error => (error === undefined ? resolve() : reject(error)))
        })
      }
    },
  })
  t.teardown(() => writer.close())
  return { world, writer }
}

t.test('a revocation is written before its answer goes', async t => {
  const { world, writer } = setUp()
  world.isHeld = true
  let isThrough = false
  const written = writer.write(one('a')).then(() => {
    isThrough = true
  })
  await until(() => world.answers.length === 1)
  t.equal(isThrough, false)
  t.equal(writer.unwritten, 1)
  world.answers[0]?.()
  await written
  t.equal(writer.unwritten, 0)
})

t.test('one statement at a time, with all that came meanwhile, each once', async t => {
  const { world, writer } = setUp()
  world.isHeld = true
  const all = [writer.write(one('first'))]
  await until(() => world.answers.length === 1)
  for (let i = 0; i < 700; i++) all.push(writer.write(one(`t${i}`)))
  all.push(writer.write(one('t0')), writer.write(one('first')))
  t.equal(world.batches.length, 1, 'nothing overtakes it')
  world.isHeld = false
  world.answers[0]?.()
  await Promise.all(all)
  t.strictSame(
    world.batches.map(batch => batch.length),
    [1, 500, 200],
  )
  t.equal(new Set(world.batches.flat()).size, 701)
})

t.test('a Registry that is down keeps nobody waiting, and gets it when it is back', async t => {
  const { world, writer } = setUp()
  world.isDown = true
  await writer.write(one('a'))
  await writer.write(one('b'))
  t.equal(writer.unwritten, 2)
  world.isDown = false
  await until(() => writer.unwritten === 0)
  t.strictSame(world.batches.at(-1), ['a', 'b'])
  await writer.write(one('c'))
  t.strictSame(world.batches.at(-1), ['c'])
})

t.test('a Registry that hangs holds an answer up for a second and no longer', async t => {
  const { world, writer } = setUp()
  world.isHeld = true
  await writer.write(one('a'))
  t.equal(world.answers.length, 1, 'it still hangs')
  world.answers[0]?.()
  await until(() => writer.unwritten === 0)
})

t.test('what waits is bounded, and what has expired waits no more', async t => {
  const { world, writer } = setUp()
  world.isDown = true
  await writer.write(one('over', Math.floor(Date.now() / 1000) - 120))
  await until(() => writer.unwritten === 0)
  for (let i = 0; i < 10_050; i++) await writer.write(one(`t${i}`))
  t.equal(writer.unwritten, 10_000)
  world.isDown = false
  world.batches.length = 0
  await until(() => writer.unwritten === 0)
  const written = new Set(world.batches.flat())
  t.equal(written.has('t10049'), true, 'the newest is among them')
  t.equal(written.has('t0'), false, 'the oldest gave way')
})

t.test('what the Registry refuses for good does not hold up the others', async t => {
  const { world, writer } = setUp()
  world.isHeld = true
  const refused = writer.write(one('bad'))
  await until(() => world.answers.length === 1)
  const next = writer.write(one('good'))
  world.isHeld = false
  world.answers[0]?.(new Fault('VALIDATION_FAILED', 'no'))
  await Promise.all([refused, next])
  t.strictSame(world.batches, [['bad'], ['good']])
  t.equal(writer.unwritten, 0)
})

t.test('close tries once more, and ends though the Registry is down or hangs', async t => {
  const { world, writer } = setUp()
  world.isDown = true
  await writer.write(one('a'))
  world.isDown = false
  await writer.close()
  t.strictSame(world.batches.at(-1), ['a'])
  const hanging = setUp()
  hanging.world.isHeld = true
  const waiting = hanging.writer.write(one('a'))
  await hanging.writer.close()
  await waiting
  t.equal(hanging.writer.unwritten, 0)
})
