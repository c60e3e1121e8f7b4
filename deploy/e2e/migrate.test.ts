import t from 'tap'
import { startWorld } from './test-kit.ts'

const world = await startWorld({ tenants: 4, apps: 0 })
t.teardown(world.close)

t.test('one broken tenant fails alone, and the next run does what is left', async t => {
  const [, broken] = world.tenants
  if (broken === undefined) throw new Error('no second tenant')
  for (const { database } of world.tenants) {
    await world.sql('postgres', `DROP DATABASE ${database}`)
    await world.sql('postgres', `CREATE DATABASE ${database} OWNER ${database}`)
  }
  await world.registrySql('UPDATE tenants SET schema_version = NULL')
  await world.sql('postgres', `ALTER DATABASE ${broken.database} CONNECTION LIMIT 0`)
  const first = await world.migrateTenants()
  t.equal(first.code, 1)
  t.match(first.stdout, /4 tenant\(s\), 1 failed\n$/)
  t.match(first.stdout, new RegExp(`^failed +${broken.key} .*too many connections`, 'm'))
  for (const { key, database } of world.tenants) {
    if (key === broken.key) continue
    t.match(first.stdout, new RegExp(`^ok +${key} {2}- -> \\d{4} `, 'm'))
    t.strictSame(await world.sql(database, 'SELECT count(*)::int AS n FROM users'), [{ n: 0 }])
  }
  t.notOk(first.output.includes(broken.password), 'no secret in the output')

  await world.sql('postgres', `ALTER DATABASE ${broken.database} CONNECTION LIMIT -1`)
  const second = await world.migrateTenants()
  t.equal(second.code, 0)
  t.match(second.stdout, /4 tenant\(s\), 0 failed\n$/)
  t.match(second.stdout, new RegExp(`^ok +${broken.key} {2}- -> \\d{4} `, 'm'))
  t.equal(second.stdout.match(/ - -> /g)?.length, 1, 'the others had nothing left to do')
  t.strictSame(await world.sql(broken.database, 'SELECT count(*)::int AS n FROM users'), [{ n: 0 }])
})
