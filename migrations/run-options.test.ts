import { randomUUID } from 'node:crypto'
import t from 'tap'
import { parseOptions } from './options.ts'
import { optionsOfRun, runOptionsOf } from './run-options.ts'

t.test(
  'what the Registry keeps of a run is what it is done again with, tenants included',
  async t => {
    for (const args of [
      [],
      ['--tenant-key', 'a', '--tenant-id', randomUUID()],
      ['--to', '0002', '--concurrency', '3', '--per-host', '4', '--canary', '5', '--retries', '0'],
      ['--max-failures', '7'],
      ['--max-failures', '2.5%', '--exclude', 'suspended', '--include', 'dedicated'],
      ['--laggards', '--rate', '30/min'],
      ['--rate', '90/h'],
    ]) {
      const options = parseOptions(args)
      if (options === 'help') throw new Error('no options')
      const kept = JSON.parse(JSON.stringify(runOptionsOf(options)))
      t.strictSame(optionsOfRun(kept), options, args.join(' '))
    }
  },
)

t.test('a run that the admin API noted has no options beside its id', async t => {
  const id = randomUUID()
  t.match(parseOptions(['--run-id', id, '--directory', 'd']), { runId: id, directory: 'd' })
  for (const other of [
    ['--to', '0001'],
    ['--plan'],
    ['--watch'],
    ['--tenant-key', 'a'],
    ['--json'],
  ]) {
    t.throws(() => parseOptions(['--run-id', id, ...other]), /--run-id has no other options/)
  }
  t.throws(() => parseOptions(['--run-id', 'x']), /not a UUID/)
  t.throws(() => parseOptions(['status', '--run-id', id]), /--run-id is for migrate/)
})
