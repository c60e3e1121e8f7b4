import { format, inspect } from 'node:util'
import t from 'tap'
import { Secret } from './secret.ts'

t.test('a secret shows in no rendering, only by reveal', async t => {
  const secret = new Secret('MARKER')
  t.equal(secret.reveal(), 'MARKER')
  const error = Object.assign(new Error('x'), { secret })
  const texts = [
    ...[`${secret}`, String(secret), JSON.stringify({ secret }), inspect({ a: { b: [secret] } })],
    ...[
      inspect(secret, { showHidden: true, depth: 9, customInspect: false }),
      format('%s %o', secret, secret),
    ],
    ...[inspect(error), JSON.stringify(Object.entries(secret)), JSON.stringify({ ...secret })],
  ]
  for (const text of texts) t.notMatch(text, 'MARKER')
})
