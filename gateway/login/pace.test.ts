import t from 'tap'
import { LoginPace, waitUntil } from './pace.ts'

const first = () => 0
const last = () => 0.999999

t.test('before the app has answered, both kinds of refusal take one guess', async t => {
  const pace = new LoginPace()
  t.equal(pace.drawMs(first), 60)
  t.equal(pace.drawOtherMs(first), 60)
})

t.test('a refusal takes what one of the latest wrong passwords took', async t => {
  const pace = new LoginPace()
  pace.note(401, 30)
  pace.note(401, 40)
  pace.note(404, 1)
  t.equal(pace.drawMs(first), 30)
  t.equal(pace.drawMs(last), 40)
  t.equal(pace.drawOtherMs(first), 30, 'a fast refusal of another kind is held back as long')
  for (let i = 0; i < 128; i++) pace.note(401, 50)
  t.equal(pace.drawMs(first), 50, 'older ones are forgotten')
  t.equal(pace.drawMs(last), 50)
})

t.test('a route that never answers 401 is followed as well', async t => {
  const pace = new LoginPace()
  pace.note(404, 2)
  t.equal(pace.drawMs(first), 60, 'a fast refusal waits until here too')
  t.equal(pace.drawOtherMs(first), 60)
  for (let i = 0; i < 128; i++) pace.note(400, 90)
  t.equal(pace.drawMs(first), 90)
  t.equal(pace.drawOtherMs(first), 60, 'and a slow one does not wait twice')
})

t.test('an app that hangs holds nobody longer than two seconds', async t => {
  const pace = new LoginPace()
  pace.note(401, 30_000)
  t.equal(pace.drawMs(first), 2000)
  t.equal(pace.drawOtherMs(first), 2000)
})

t.test('a wait ends at its time and not before', async t => {
  for (const ms of [0.3, 5.5, 20.25]) {
    const atMs = performance.now() + ms
    await waitUntil(atMs)
    t.ok(performance.now() >= atMs)
  }
  await waitUntil(performance.now() - 10)
})
