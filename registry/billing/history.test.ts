import fc from 'fast-check'
import t from 'tap'
import { activeDays, type Change, valueAt } from './history.ts'

const DAY_MS = 86_400_000
const START = Date.UTC(2026, 1, 1)
const END = Date.UTC(2026, 2, 1)
const at = (day: number, hour = 0) => START + day * DAY_MS + hour * 3_600_000

t.test('a day counts where the tenant was active in some part of it', async t => {
  const days = (changes: readonly Change<string>[], now: string | null, sinceMs = 0, endMs = END) =>
    activeDays(changes, now, sinceMs, START, endMs)
  t.equal(days([], 'active').length, 28, 'all the month')
  t.strictSame(days([], 'suspended'), [])
  t.strictSame(days([], 'active', at(25, 5)), [25, 26, 27], 'made on the 26th')
  const suspended = { atMs: at(2, 10), from: 'active', to: 'suspended' }
  const back = { atMs: at(5, 1), from: 'suspended', to: 'active' }
  const gone = { atMs: at(6, 0), from: 'active', to: null }
  t.strictSame(days([suspended], 'suspended'), [0, 1, 2])
  t.strictSame(days([suspended, back, gone], null), [0, 1, 2, 5], 'deleted at midnight')
  const made = { atMs: at(1, 3), from: null, to: 'active' }
  t.strictSame(days([made, suspended], 'suspended'), [1, 2])
  t.strictSame(days([], 'active', 0, at(3, 12)), [0, 1, 2, 3], 'a month that is under way')
  t.strictSame(days([{ atMs: END + 5, from: 'suspended', to: 'active' }], 'active'), [])
  t.equal(valueAt([suspended, back], 'active', at(3)), 'suspended')
})

t.test('property: the days are those that a look at every hour finds', async t => {
  const word = fc.constantFrom('active', 'suspended', 'maintenance', 'archived')
  fc.assert(
    fc.property(
      fc.array(fc.record({ hour: fc.integer({ min: -200, max: 900 }), to: word })),
      word,
      (list, first) => {
        let from = first
        const changes = list
          .sort((a, b) => a.hour - b.hour)
          .map(({ hour, to }) => {
            const change = { atMs: START + hour * 3_600_000, from, to }
            from = to
            return change
          })
        const seen = new Set<number>()
        for (let ms = START; ms < END; ms += 3_600_000) {
          if (valueAt(changes, from, ms) === 'active') seen.add(Math.floor((ms - START) / DAY_MS))
        }
        t.strictSame(activeDays(changes, from, 0, START, END), [...seen])
      },
    ),
  )
})
