import t from 'tap'
import { chooseAmong, chooseForSocket, isOverloaded, loadBound } from './choose.ts'
import { makeReplica } from './replica.ts'

const OPEN = () => false
const replica = (origin: string, inFlight = 0, weight = 1) =>
  Object.assign(makeReplica(origin, weight), { inFlight })

t.test('the first of the home serves until it is a quarter above its share', async t => {
  const home = [replica('a', 0), replica('b', 0)]
  const load = { inFlight: 36, weight: 4 }
  // 1.25 × 37 / 4, rounded up
  t.equal(loadBound(home[0] as never, load), 12)
  const [a, b] = home as [(typeof home)[0], (typeof home)[0]]
  a.inFlight = 11
  t.equal(chooseAmong(home, load, null, OPEN), a)
  a.inFlight = 12
  t.equal(chooseAmong(home, load, null, OPEN), b)
  b.inFlight = 14
  t.equal(chooseAmong(home, load, null, OPEN), a, 'all over the bound: the least loaded')
  t.equal(chooseAmong(home, load, a, OPEN), b, 'never the one that was tried')
})

t.test('a shut one is passed over, and used where there is no other', async t => {
  const home = [replica('a'), replica('b')]
  const [a, b] = home as [(typeof home)[0], (typeof home)[0]]
  const load = { inFlight: 0, weight: 2 }
  t.equal(
    chooseAmong(home, load, null, one => one === a),
    b,
  )
  t.equal(
    chooseAmong(home, load, null, () => true),
    a,
  )
  t.equal(chooseAmong([a], load, a, OPEN), a, 'as is the one that was tried')
  t.equal(chooseAmong([], load, null, OPEN), null)
})

t.test('weight counts in the bound', async t => {
  const light = replica('light', 0, 0.1)
  t.equal(loadBound(light, { inFlight: 99, weight: 2.1 }), 6)
})

t.test('sockets go where the fewest are', async t => {
  const home = [replica('a'), replica('b')]
  const [a, b] = home as [(typeof home)[0], (typeof home)[0]]
  a.sockets = 2
  t.equal(chooseForSocket(home, null, OPEN), b)
  t.equal(chooseForSocket(home, b, OPEN), a)
  t.equal(
    chooseForSocket(home, null, one => one === b),
    a,
  )
})

t.test(
  'overloaded is a home of which every replica is over its bound, and really busy',
  async t => {
    const home = [replica('a', 20), replica('b', 20)]
    t.ok(isOverloaded(home, { inFlight: 40, weight: 4 }, 16))
    t.notOk(isOverloaded(home, { inFlight: 40, weight: 2 }, 16), 'they are the whole fleet')
    t.notOk(isOverloaded([replica('a', 3)], { inFlight: 3, weight: 10 }, 16))
  },
)
