import t from 'tap'
import { makeSampler } from './sampler.ts'
import { makeTraceId } from './trace-context.ts'

t.test('each sampler keeps what its name says', async t => {
  const id = makeTraceId()
  const kept = (name: Parameters<typeof makeSampler>[0], ratio: number) =>
    [null, true, false].map(parent => makeSampler(name, ratio)(parent, id))
  t.strictSame(kept('always_on', 0), [true, true, true])
  t.strictSame(kept('always_off', 1), [false, false, false])
  t.strictSame(kept('traceidratio', 1), [true, true, true])
  t.strictSame(kept('traceidratio', 0), [false, false, false])
  t.strictSame(kept('parentbased_always_on', 0), [true, true, false])
  t.strictSame(kept('parentbased_always_off', 1), [false, true, false])
  t.strictSame(kept('parentbased_traceidratio', 0), [false, true, false])
})

t.test('a ratio keeps that share, and the same traces wherever it is asked', async t => {
  const ids = Array.from({ length: 20_000 }, makeTraceId)
  const tenth = ids.filter(id => makeSampler('traceidratio', 0.1)(null, id))
  // Six standard deviations of a binomial distribution are 255.
  t.ok(Math.abs(tenth.length - 2000) < 260, String(tenth.length))
  const half = makeSampler('parentbased_traceidratio', 0.5)
  t.ok(tenth.every(id => half(null, id)))
})
