import t from 'tap'
import { attemptIdOf, continueTrace, isSaneRequestId, makeRequestId } from './request-id.ts'

t.test('only sane request ids of clients are taken over', async t => {
  for (const id of ['abcdefgh', 'A-b_9'.repeat(3), makeRequestId()]) t.ok(isSaneRequestId(id), id)
  for (const id of [
    null,
    '',
    'short',
    'a.b.c.d.e',
    'a b c d e',
    'x'.repeat(129),
    'abcdefg\n',
    'é'.repeat(9),
  ]) {
    t.notOk(isSaneRequestId(id), String(id))
  }
})

t.test(
  'the signed id differs at each attempt, and each time where the client chose the id',
  async t => {
    t.equal(attemptIdOf('made-here', false, 1), 'made-here')
    t.not(attemptIdOf('made-here', false, 2), 'made-here')
    const ids = Array.from({ length: 1000 }, () => attemptIdOf('client-chosen', true, 1))
    t.equal(new Set(ids).size, 1000)
    t.notOk(ids.some(id => id.includes('.')))
  },
)

t.test('a trace is continued with a new span, or begun', async t => {
  const traceId = '0af7651916cd43dd8448eb211c80319c'
  const given = `00-${traceId}-b7ad6b7169203331-01`
  const continued = continueTrace(given, 'vendor=1')
  t.match(continued.traceparent, new RegExp(`^00-${traceId}-[0-9a-f]{16}-01$`))
  t.not(continued.traceparent, given)
  t.equal(continued.tracestate, 'vendor=1')
  const bad = [
    null,
    'x',
    `ff-${traceId}-b7ad6b7169203331-01`,
    `00-${'0'.repeat(32)}-b7ad6b7169203331-01`,
    `00-${traceId}-${'0'.repeat(16)}-01`,
    `00-${traceId.toUpperCase()}-b7ad6b7169203331-01`,
  ]
  for (const traceparent of bad) {
    const begun = continueTrace(traceparent, 'vendor=1')
    t.match(begun.traceparent, /^00-[0-9a-f]{32}-[0-9a-f]{16}-00$/)
    t.notMatch(begun.traceparent, traceId)
    t.equal(begun.tracestate, null)
  }
  const traces = Array.from({ length: 1000 }, () => continueTrace(null, null).traceparent)
  t.equal(new Set(traces).size, 1000)
})
