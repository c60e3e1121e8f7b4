import t from 'tap'
import type { MigrationNote } from '../registry/migration-note.ts'
import type { ListedTenant } from '../registry/tenant-list.ts'
import { HostQueues } from './host-queues.ts'
import { Recorder } from './recorder.ts'
import { isOver, planWaves } from './waves.ts'

const tenants = (count: number, status = 'active') =>
  Array.from({ length: count }, (_, i) => ({ key: `${status}${i}`, status }) as ListedTenant)

t.test('canaries are active tenants, then a tenth of the fleet, then the rest', async t => {
  const fleet = [...tenants(30, 'suspended'), ...tenants(70)]
  const waves = planWaves(fleet, 2)
  t.strictSame(
    waves.map(wave => [wave.name, wave.tenants.length]),
    [
      ['canary', 2],
      ['second', 10],
      ['rest', 88],
    ],
  )
  t.ok(waves[0]?.tenants.every(({ status }) => status === 'active'))
  t.equal(new Set(waves.flatMap(wave => wave.tenants)).size, 100, 'each of them once')
  t.strictSame(planWaves(fleet, 0), [{ name: 'all', tenants: fleet }])
  t.strictSame(
    planWaves(tenants(1), 5).map(({ name }) => name),
    ['canary'],
  )
})

t.test('a canary may not fail at all, others by count or share', async t => {
  t.ok(isOver(null, 1, 1000, 'canary'))
  t.notOk(isOver(null, 1000, 1000, 'rest'))
  const [count, percent] = [
    { kind: 'count', count: 2 },
    { kind: 'percent', percent: 1 },
  ] as const
  t.strictSame([isOver(count, 2, 9, 'all'), isOver(count, 3, 9, 'all')], [false, true])
  t.strictSame([isOver(percent, 10, 1000, 'all'), isOver(percent, 11, 1000, 'all')], [false, true])
})

t.test('servers take turns, each with so many at a time', async t => {
  const queues = new HostQueues(2, ['a1', 'a2', 'a3', 'a4', 'b1'], item => item.charAt(0))
  const taken = Array.from({ length: 4 }, () => queues.take()?.item)
  t.strictSame(taken, ['a1', 'b1', 'a2', undefined], 'a is full, b is empty')
  t.strictSame(queues.left, ['a3', 'a4'])
  queues.give('a')
  t.strictSame(queues.take(), { item: 'a3', host: 'a' })
  t.equal(queues.take(), null)
})

t.test('notes go in batches; what the Registry did not take is told again', async t => {
  const written: string[][] = []
  const versions: number[] = []
  let failures = 2
  const fail = () => {
    if (failures-- > 0) throw new Error('the Registry is away')
  }
  const recorder = new Recorder({
    async noteMigrations(notes) {
      fail()
      written.push(notes.map(({ id, state }) => `${id} ${state}`))
    },
    async setSchemaVersions(some) {
      fail()
      versions.push(some.size)
    },
  })
  const note = (id: string, state: 'running' | 'ok') =>
    recorder.note({ id, state } as unknown as MigrationNote)
  note('a', 'running')
  note('b', 'running')
  note('a', 'ok')
  for (let i = 0; i < 60; i++) recorder.version(`t${i}`, '0001')
  await recorder.close()
  t.strictSame(written, [['a ok', 'b running']], 'the latest of each')
  t.strictSame(versions, [50, 10], 'so many notices at a time')
})
