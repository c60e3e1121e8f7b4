import t from 'tap'
import { attemptIdOf, isSaneRequestId, makeRequestId } from './request-id.ts'

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
