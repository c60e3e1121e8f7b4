import { randomUUID } from 'node:crypto'
import t from 'tap'
import { RegistryStore } from '../store.ts'
import { silent, startTestRegistry } from '../test-kit.ts'
import { peopleOf } from './month-people.ts'

const registry = await startTestRegistry()
t.teardown(() => registry.stop())
const { admin } = registry
const store = new RegistryStore({ url: registry.url, log: silent })
t.teardown(() => store.close())

/** `users` of each of `days`, of which each day has its own share; their ids are not in the order of their making. */
const name = (id: string, days: number, users: number, step: number) =>
  admin.query(
    `INSERT INTO user_activity_daily (tenant_id, date, user_id, user_mark)
     SELECT $1, date '2026-03-01' + day, md5((day * $4::int + i)::text),
       (abs(hashtext((day * $4::int + i)::text)) % 16384) * 64 + 1 + abs(hashtext('r' || (day * $4::int + i))) % 12
     FROM generate_series(0, $2::int - 1) AS day, generate_series(1, $3::int) AS i`,
    [id, days, users, step],
  )

const sketch = (id: string, days: number, first = '2026-03-01') =>
  admin.query(
    `INSERT INTO user_sketch_daily (tenant_id, date, registers, is_counted)
     SELECT $1, $3::date + day, (
       SELECT decode(string_agg('0' || left(md5(day::text || i), 1), '' ORDER BY i), 'hex')
       FROM generate_series(1, 16384) AS i), true
     FROM generate_series(0, $2::int - 1) AS day`,
    [id, days, first],
  )

async function bySql(id: string): Promise<number> {
  const { rows } = await admin.query(
    "SELECT usage_people($1, date '2026-03-01', date '2026-04-01') AS people",
    [id],
  )
  return rows[0].people
}

t.test(
  'people of a month are what usage_people says, by statements that are each bounded',
  async t => {
    const cases = [
      { days: 0, users: 0, step: 0, sketches: 0 },
      { days: 31, users: 40, step: 13, sketches: 0 },
      { days: 9, users: 2500, step: 700, sketches: 0 },
      { days: 3, users: 1000, step: 0, sketches: 0 },
      { days: 4, users: 1500, step: 1500, sketches: 3 },
      { days: 0, users: 0, step: 0, sketches: 31 },
    ]
    for (const { days, users, step, sketches } of cases) {
      const id = randomUUID()
      await name(id, days, users, step)
      await sketch(id, sketches)
      let largest = 0
      const query: typeof store.query = async (...statement) => {
        const rows = await store.query(...statement)
        const size = (value: unknown) => (Buffer.isBuffer(value) ? value.length : 20)
        const bytes = rows
          .flatMap(row => Object.values(row))
          .reduce<number>((n, v) => n + size(v), 0)
        largest = Math.max(largest, bytes)
        return rows
      }
      const people = (await peopleOf({ query }, id, ['2026-03', '2026-04'])).get('2026-03')
      t.equal(people, await bySql(id), JSON.stringify({ days, users, step, sketches }))
      t.ok(largest < 9 * 16_384)
      if (sketches === 0)
        t.equal(people, days === 0 ? 0 : users + (days - 1) * Math.min(step, users))
    }
  },
)

t.test('what was kept of a month stays, and who is left of it makes it no more', async t => {
  const id = randomUUID()
  await name(id, 2, 10, 0)
  const keep = 'INSERT INTO user_people_monthly (tenant_id, month, people) VALUES ($1, $2, $3)'
  await admin.query(keep, [id, '2026-03-01', 77])
  t.strictSame(
    [...(await peopleOf(store, id, ['2026-02', '2026-03']))],
    [
      ['2026-02', 0],
      ['2026-03', 77],
    ],
  )
  t.equal(await bySql(id), 77)
})
