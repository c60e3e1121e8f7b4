import t from 'tap'
import {
  boundedTracestate,
  parseTraceparent,
  RANDOM,
  SAMPLED,
  traceparentOf,
} from './trace-context.ts'

const traceId = '0af7651916cd43dd8448eb211c80319c'
const spanId = 'b7ad6b7169203331'

t.test('a valid traceparent is read, of later versions the part that is known', async t => {
  t.strictSame(parseTraceparent(`00-${traceId}-${spanId}-01`), { traceId, spanId, flags: SAMPLED })
  t.equal(parseTraceparent(`00-${traceId}-${spanId}-00`)?.flags, 0)
  t.equal(parseTraceparent(`00-${traceId}-${spanId}-ff`)?.flags, SAMPLED | RANDOM)
  t.equal(parseTraceparent(`cc-${traceId}-${spanId}-01`)?.traceId, traceId)
  t.equal(parseTraceparent(`cc-${traceId}-${spanId}-01-what-comes`)?.spanId, spanId)
})

t.test('what is not valid is no parent', async t => {
  for (const text of [
    null,
    undefined,
    '',
    'x',
    `00-${traceId}-${spanId}`,
    `00-${traceId}-${spanId}-01-more`,
    `00-${traceId}-${spanId}-01 `,
    `cc-${traceId}-${spanId}-01more`,
    `cc-${traceId}-${spanId}-01-${'x'.repeat(300)}`,
    `ff-${traceId}-${spanId}-01`,
    `00-${'0'.repeat(32)}-${spanId}-01`,
    `00-${traceId}-${'0'.repeat(16)}-01`,
    `00-${traceId.toUpperCase()}-${spanId}-01`,
    `0-${traceId}-${spanId}-01`,
    ` 00-${traceId}-${spanId}-01`,
    `00-${traceId}-${spanId}-1`,
    `00-${traceId}-${spanId}-0x`,
  ]) {
    t.equal(parseTraceparent(text), null, String(text))
  }
})

t.test('what is written can be read', async t => {
  t.equal(traceparentOf(traceId, spanId, 3), `00-${traceId}-${spanId}-03`)
  t.equal(parseTraceparent(traceparentOf(traceId, spanId, 2))?.flags, RANDOM)
})

t.test('a tracestate goes on as it is, or not at all', async t => {
  t.equal(boundedTracestate('a=1, b=2'), 'a=1, b=2')
  t.equal(boundedTracestate('x'.repeat(512))?.length, 512)
  t.equal(boundedTracestate('x'.repeat(513)), null)
  t.equal(boundedTracestate(null), null)
})
