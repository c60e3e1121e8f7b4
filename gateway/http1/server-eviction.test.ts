import t from 'tap'
import { chooseEvicted, type Quiet } from './server-eviction.ts'

const quiet = (address: string, quietSinceTick: number, isInHead = false): Quiet => ({
  client: { address },
  quietSinceTick,
  isInHead,
})

t.test('the address that holds the most makes room, its oldest idle connection first', async t => {
  const flood = [quiet('a', 50), quiet('a', 10, true), quiet('a', 40), quiet('a', 30)]
  const others = [quiet('b', 1), quiet('c', 2, true)]
  const perAddress = new Map([
    ['a', 4],
    ['b', 2],
    ['c', 1],
  ])
  const all = [others[0], ...flood, others[1]] as Quiet[]
  t.strictSame(chooseEvicted(all, perAddress, 2), [flood[3], flood[2]])
  t.strictSame(
    chooseEvicted(all, perAddress, 9),
    [flood[3], flood[2], flood[0], flood[1]],
    'heads under way last, other addresses not at all',
  )
})

t.test('where the heaviest address is busy, the next one makes room; none, none', async t => {
  const perAddress = new Map([
    ['busy', 100],
    ['a', 2],
    ['b', 2],
  ])
  const a = quiet('a', 9)
  t.strictSame(chooseEvicted([a, quiet('b', 1)], perAddress, 5), [a])
  t.strictSame(chooseEvicted([], perAddress, 5), [])
})
