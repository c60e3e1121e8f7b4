import { randomBytes } from 'node:crypto'
import t from 'tap'
import { Sightings } from './sightings.ts'

const token = () => `header.payload.${randomBytes(32).toString('base64url')}`

t.test('a token is new once', async t => {
  const sightings = new Sightings(1 << 16)
  const tokens = Array.from({ length: 1000 }, token)
  const first = tokens.filter(text => sightings.isSecond(text)).length
  const second = tokens.filter(text => sightings.isSecond(text)).length
  t.ok(first <= 2, `${first} of 1,000 were taken for known`)
  t.ok(second >= 950, `${second} of 1,000 were known`)
})

t.test('tokens that come once push nothing but each other out', async t => {
  const sightings = new Sightings(1 << 10)
  let known = 0
  for (let i = 0; i < 100_000; i++) if (sightings.isSecond(token())) known++
  t.ok(known < 10, `${known} of 100,000`)
})

t.test('the size is a power of two', async t => {
  t.throws(() => new Sightings(1000))
})
