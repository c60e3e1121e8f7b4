import { once } from 'node:events'
import { Writable } from 'node:stream'
import pg from 'pg'
import t from 'tap'
import { withDeadline } from '../lib/deadline.ts'
import { destroyPg } from '../lib/pg.ts'
import { startTestRegistry } from '../test-kit.ts'
import { copyOut } from './copy-out.ts'

const registry = await startTestRegistry()
t.teardown(() => registry.stop())

t.test('a sink that is full at the end holds up no statement after it', async t => {
  const client = new pg.Client({ connectionString: registry.url })
  client.on('error', () => {})
  await client.connect()
  t.teardown(() => destroyPg(client))
  let bytes = 0
  const sink = new Writable({
    highWaterMark: 1,
    write(chunk: Buffer, _, done) {
      bytes += chunk.length
      setImmediate(done)
    },
  })
  // Small enough to come together with its end.
  const statement = `COPY (SELECT repeat('x', 10) FROM generate_series(1, 3)) TO STDOUT`
  t.equal(await copyOut(client, statement, sink), 3)
  const finished = once(sink, 'finish')
  sink.end()
  const late = () => new Error('the connection reads no more')
  await t.resolves(withDeadline(client.query('SELECT 1'), 5000, late))
  await finished
  t.equal(bytes, 33)
})
