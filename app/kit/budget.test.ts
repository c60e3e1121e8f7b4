import t from 'tap'
import { ConnectionBudget, type Member } from './budget.ts'

/** A pool that wants `demand` connections and keeps what it gets. */
class Wanting implements Member {
  readonly server: string
  readonly name: string
  demand: number
  readonly #opened: string[]

  constructor(name: string, server: string, demand: number, opened: string[]) {
    this.name = name
    this.server = server
    this.demand = demand
    this.#opened = opened
  }

  get wantsSlot(): boolean {
    return this.demand > 0
  }

  open(): void {
    this.demand -= 1
    this.#opened.push(this.name)
  }
}

function scene(max: number, serverMax: number) {
  const budget = new ConnectionBudget(max, serverMax)
  const opened: string[] = []
  const pool = (name: string, server: string, demand: number) => {
    const made = new Wanting(name, server, demand, opened)
    budget.want(made)
    return made
  }
  return { budget, opened, pool }
}

t.test('slots go round between those who want them, however many each wants', async t => {
  const { budget, opened, pool } = scene(1, 1)
  pool('holder', 'h:1', 1)
  pool('greedy', 'h:1', 100)
  pool('modest', 'h:1', 1)
  pool('late', 'h:1', 2)
  for (let i = 0; i < 6; i += 1) budget.give('h:1', false)
  t.strictSame(opened, ['holder', 'greedy', 'modest', 'late', 'greedy', 'late', 'greedy'])
  t.equal(budget.used, 1)
})

t.test('a full server holds up nobody who wants another', async t => {
  const { budget, opened, pool } = scene(3, 1)
  pool('a', 'h:1', 1)
  pool('b', 'h:1', 1)
  pool('c', 'h:2', 1)
  t.strictSame(opened, ['a', 'c'])
  t.equal(budget.usedOnBusiestServer, 1)
  t.ok(budget.isWantedByOther(new Wanting('a', 'h:1', 0, [])), 'its slot would help b')
  t.notOk(budget.isWantedByOther(new Wanting('c', 'h:2', 0, [])), 'this one would not')
  budget.give('h:1', false)
  t.strictSame(opened, ['a', 'c', 'b'])
})

t.test('as many slots are asked back as are waited for, and none in one’s own turn', async t => {
  const { budget, pool } = scene(2, 2)
  const holder = pool('holder', 'h:1', 2)
  pool('waiting', 'h:1', 5)
  t.ok(budget.isWantedByOther(holder))
  budget.noteFreeing('h:1')
  t.notOk(budget.isWantedByOther(holder), 'one is coming')
  budget.give('h:1', true)
  const [first] = [pool('third', 'h:1', 1)]
  t.equal(first.demand, 1)
  budget.withdraw(holder)
  t.ok(budget.isWantedByOther(holder))
})

t.test('idle connections make room: of the full server, or of any where all are used', async t => {
  const { budget, opened, pool } = scene(2, 1)
  const asked: (string | null)[] = []
  budget.evictIdle = server => {
    asked.push(server)
    const at = server ?? 'h:2'
    budget.noteIdle(at, -1)
    budget.noteFreeing(at)
    return true
  }
  pool('a', 'h:1', 1)
  budget.noteIdle('h:1', 1)
  pool('b', 'h:1', 1)
  t.strictSame(asked, ['h:1'])
  budget.give('h:1', true)
  t.strictSame(opened, ['a', 'b'])
  pool('c', 'h:2', 1)
  budget.noteIdle('h:2', 1)
  pool('d', 'h:3', 1)
  pool('e', 'h:3', 1)
  t.strictSame(asked, ['h:1', null], 'no idle one is left for e')
  budget.give('h:2', true)
  t.strictSame(opened, ['a', 'b', 'c', 'd'])
})
