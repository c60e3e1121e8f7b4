import { createHmac, randomBytes } from 'node:crypto'
import t from 'tap'
import { HmacSha256 } from './hmac.ts'

t.test('a tag is that of node:crypto, for any key and text', async t => {
  const texts = ['', 'v1\nGET\n/api/x', 'é€😀', 'x'.repeat(63), 'y'.repeat(64), 'z'.repeat(20_000)]
  for (const bytes of [0, 1, 31, 32, 63, 64]) {
    const key = randomBytes(bytes)
    const hmac = new HmacSha256(key)
    for (const text of [...texts, ...texts.toReversed()]) {
      const expected = createHmac('sha256', key).update(text).digest('base64url')
      t.equal(hmac.tag(text), expected, `${bytes} byte key, ${text.length} characters`)
    }
  }
})

t.test('a key longer than a block is refused', async t => {
  t.throws(() => new HmacSha256(randomBytes(65)))
})
