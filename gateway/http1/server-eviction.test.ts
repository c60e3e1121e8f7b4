import t from 'tap'
import { chooseEvicted, type Quiet } from './server-eviction.ts'

const quiet = (network: string, quietSinceTick: number, isInHead = false): Quiet => ({
  network,
  quietSinceTick,
  isInHead,
})

t.test('the network that holds the most makes room, its oldest idle connection first', async t => {
  const flood = [quiet('a', 50), quiet('a', 10, true), quiet('a', 40), quiet('a', 30)]
  const others = [quiet('b', 1), quiet('c', 2, true)]
  const perNetwork = new Map([
    ['a', 4],
    ['b', 2],
    ['c', 1],
  ])
  const all = [others[0], ...flood, others[1]] as Quiet[]
  t.strictSame(chooseEvicted(all, perNetwork, 2), [flood[3], flood[2]])
  t.strictSame(
    chooseEvicted(all, perNetwork, 9),
    [flood[3], flood[2], flood[0], flood[1]],
    'heads under way last, other networks not at all',
  )
})

t.test('where the heaviest network is busy, the next one makes room; none, none', async t => {
  const perNetwork = new Map([
    ['busy', 100],
    ['a', 2],
    ['b', 2],
  ])
  const a = quiet('a', 9)
  t.strictSame(chooseEvicted([a, quiet('b', 1)], perNetwork, 5), [a])
  t.strictSame(chooseEvicted([], perNetwork, 5), [])
})
