import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import t from 'tap'
import type { TenantId } from '../../registry/tenant.ts'
import { makeReplayGuard } from './replay-guard.ts'

const A = '00000000-0000-4000-8000-00000000000a' as TenantId
const B = '00000000-0000-4000-8000-00000000000b' as TenantId
const NOW = 1_700_000_000_000

t.test('an id is admitted once per tenant', async t => {
  const guard = makeReplayGuard(100)
  guard.admit(A, 'r1', NOW, NOW)
  t.throws(() => guard.admit(A, 'r1', NOW, NOW), { code: 'CONTEXT_INVALID' })
  t.throws(() => guard.admit(A, 'r1', NOW + 5, NOW + 5), { code: 'CONTEXT_INVALID' })
  t.doesNotThrow(() => guard.admit(B, 'r1', NOW, NOW))
})

t.test('a header that is early is remembered for as long as it could be accepted', async t => {
  const guard = makeReplayGuard(100)
  guard.admit(A, 'early', NOW + 30_000, NOW)
  t.throws(() => guard.admit(A, 'early', NOW + 30_000, NOW + 59_999), { code: 'CONTEXT_INVALID' })
})

t.test('memory is given back after the window', async t => {
  const guard = makeReplayGuard(1000)
  for (let i = 0; i < 500; i += 1) guard.admit(A, `r${i}`, NOW + i, NOW)
  t.equal(guard.size, 500)
  guard.admit(A, 'later', NOW + 40_000, NOW + 40_000)
  t.equal(guard.size, 1)
})

t.test('a full guard refuses and forgets nothing', async t => {
  const guard = makeReplayGuard(2)
  guard.admit(A, 'r1', NOW, NOW)
  guard.admit(A, 'r2', NOW, NOW)
  t.throws(() => guard.admit(A, 'r3', NOW, NOW), { code: 'INTERNAL' })
  t.throws(() => guard.admit(A, 'r1', NOW, NOW), { code: 'CONTEXT_INVALID' })
  t.doesNotThrow(() => guard.admit(A, 'r3', NOW + 32_000, NOW + 32_000))
})

t.test('an empty or oversized id is refused', async t => {
  const guard = makeReplayGuard(2)
  for (const id of ['', 'x'.repeat(129)]) {
    t.throws(() => guard.admit(A, id, NOW, NOW), { code: 'CONTEXT_INVALID' })
  }
  t.equal(guard.size, 0)
})

t.test('an id keeps neither its header in memory nor more than 300 bytes', async t => {
  setFlagsFromString('--expose-gc')
  const collect = runInNewContext('gc') as () => void
  const ids = 20_000
  const guard = makeReplayGuard(ids)
  collect()
  const before = process.memoryUsage().heapUsed
  for (let i = 0; i < ids; i += 1) {
    const header = Buffer.from(`v1.${'x'.repeat(3000)}.id-of-request-${i}.1.tag`).toString('latin1')
    guard.admit(A, header.split('.')[2] as string, NOW, NOW)
  }
  collect()
  const bytes = (process.memoryUsage().heapUsed - before) / guard.size
  t.ok(bytes < 300, `${Math.round(bytes)} bytes an id`)
})
