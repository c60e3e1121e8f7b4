import t from 'tap'
import { HELP, type Options, parseOptions } from './options.ts'
import { SCENARIOS } from './scenarios/all.ts'

const names = (list: readonly { readonly name: string }[]) => list.map(one => one.name)

t.test('without names all scenarios run, with --quick the main ones', async t => {
  t.same((parseOptions([]) as Options).scenarios, SCENARIOS)
  const quick = parseOptions(['--quick']) as Options
  t.ok(quick.scenarios.length > 0 && quick.scenarios.every(scenario => scenario.isMain))
  t.ok(quick.rounds * quick.seconds < 2)
})

t.test('names choose, in the order of the list, and --quick then only shortens', async t => {
  const chosen = parseOptions(['zipf', 'hot', '--quick', '--peers', 'nginx,doorman']) as Options
  t.same(names(chosen.scenarios), ['hot', 'zipf'])
  t.same(names(chosen.peers), ['doorman', 'nginx'])
})

t.test('a wrong name or number is refused in one line', async t => {
  t.throws(() => parseOptions(['hott']), /no scenario is called hott/)
  t.throws(() => parseOptions(['--peers', 'nginks']), /no proxy is called nginks/)
  t.throws(() => parseOptions(['--rounds', '0']), /--rounds/)
  t.throws(() => parseOptions(['--rounds', '1.5']), /--rounds/)
  t.throws(() => parseOptions(['--seconds', 'x']), /--seconds/)
  t.throws(() => parseOptions(['--fast']))
})

t.test('names are unique and the help shows all of them', async t => {
  t.equal(new Set(names(SCENARIOS)).size, SCENARIOS.length)
  for (const name of names(SCENARIOS)) t.ok(HELP.includes(name), name)
  t.equal(parseOptions(['--help']), 'help')
  t.equal(parseOptions(['--list']), 'list')
})
