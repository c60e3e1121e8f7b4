import t from 'tap'
import type { UpstreamFault } from './client.ts'
import { mayRetry, RetryBudget } from './retry.ts'

const fault = (over: Partial<UpstreamFault>): UpstreamFault => ({
  kind: 'reset',
  isUnsent: false,
  isReused: true,
  reason: 'test',
  ...over,
})

t.test('a request that never reached a replica may be sent again, whatever its method', async t => {
  t.ok(mayRetry(fault({ kind: 'connect', isUnsent: true }), 1, 'POST', true))
})

t.test('a POST that a replica may have seen is never sent again', async t => {
  for (const method of ['POST', 'PATCH']) t.notOk(mayRetry(fault({}), 1, method, true), method)
})

t.test(
  'a safe request may be sent once more after a reset, an idempotent one only if idle',
  async t => {
    t.ok(mayRetry(fault({}), 1, 'GET', true))
    t.notOk(mayRetry(fault({}), 2, 'GET', true), 'once')
    t.ok(mayRetry(fault({ isReused: false }), 1, 'GET', true), 'also on a fresh connection')
    t.ok(mayRetry(fault({}), 1, 'PUT', true))
    t.notOk(mayRetry(fault({ isReused: false }), 1, 'PUT', true), 'an idempotent one not there')
    t.notOk(mayRetry(fault({ kind: 'timeout' }), 1, 'GET', true), 'not after a time-out')
    t.notOk(mayRetry(fault({}), 1, 'PUT', false), 'not with a streamed body')
  },
)

t.test('retries are a fifth of the requests at most', async t => {
  const budget = new RetryBudget()
  let spent = 0
  while (budget.spend()) spent++
  t.equal(spent, 50)
  for (let i = 0; i < 50; i++) budget.earn()
  for (spent = 0; budget.spend(); ) spent++
  t.equal(spent, 10)
})
