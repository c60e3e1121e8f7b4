import { randomUUID } from 'node:crypto'
import t from 'tap'
import { addRun, claimRun, giveUpRun, type RunOptions } from '../migrate/runs.ts'
import { RegistryStore } from '../store.ts'
import { silent, startTestRegistry, until } from '../test-kit.ts'
import { MigrationStreams } from './migration-streams.ts'

const registry = await startTestRegistry()
const store = new RegistryStore({ url: registry.url, log: silent })
t.teardown(async () => {
  await store.close()
  await registry.stop()
})
const options: RunOptions = {
  ...{ tenants: null, to: null, concurrency: 8, per_host: 2, canary: 0, max_failures: null },
  ...{ include_suspended: true, include_dedicated: false, laggards: false },
  ...{ rate_per_minute: null, retries: 3 },
}
const PACE = { pollMs: 5, silenceMs: 20, streamMsMax: 60_000 }

async function runningRun(): Promise<string> {
  const id = await addRun(store, { startedBy: 'test', isFleet: true, options })
  await claimRun(store, id, 'test 1')
  return id
}

/** What comes, until `isEnough` of it; undefined: until the stream ends. */
async function read(stream: AsyncIterable<Buffer> | null, isEnough = (_text: string) => false) {
  let text = ''
  for await (const chunk of stream ?? []) {
    text += chunk.toString()
    if (isEnough(text)) break
  }
  return text
}

t.test('a stream with nothing to tell says that it is there', async t => {
  const gone = new AbortController()
  const streams = new MigrationStreams(PACE)
  const stream = await streams.open(store, await runningRun(), null, gone.signal)
  const text = await read(stream, all => all.split(': still here\n\n').length > 3)
  t.match(text, /^retry: \d+\n\nid: 1-0\nevent: progress\ndata: {.*}\n\n: still here\n\n/)
  t.equal(text.split('event:').length, 2, 'a revision is told once')
  gone.abort()
})

t.test('a stream ends after its time, and goes on with no event told twice', async t => {
  const id = await runningRun()
  const streams = new MigrationStreams({ ...PACE, streamMsMax: 50 })
  const gone = new AbortController()
  const first = await read(await streams.open(store, id, null, gone.signal))
  t.match(first, /event: progress/)
  t.notMatch(first, /event: end/)
  const second = await read(await streams.open(store, id, '1-0', gone.signal))
  t.notMatch(second, /event:/)
  await giveUpRun(store, id, 'over')
  const third = await read(await streams.open(store, id, '1-0', gone.signal))
  t.match(third, /id: 2-0-end\nevent: end\n/)
  t.equal(await streams.open(store, id, '2-0-end', gone.signal), null)
  gone.abort()
})

t.test('a Registry that is away ends no stream, and what happened meanwhile is told', async t => {
  const own = new RegistryStore({ url: registry.url, log: silent })
  const id = await runningRun()
  const gone = new AbortController()
  const streams = new MigrationStreams(PACE)
  const stream = await streams.open(own, id, null, gone.signal)
  let text = ''
  const ended = read(stream, all => {
    text = all
    return false
  })
  const comments = () => text.split(': still here').length
  await until('it runs', () => comments() > 2)
  await registry.admin.query('ALTER TABLE migration_runs RENAME TO away')
  const before = comments()
  await until('it goes on', () => comments() > before + 3)
  await registry.admin.query(
    `UPDATE away SET state = 'done', revision = revision + 1 WHERE id = '${id}'`,
  )
  await registry.admin.query('ALTER TABLE away RENAME TO migration_runs')
  t.match(await ended, /event: end\ndata: .*"state":"done"/)
  gone.abort()
  await own.close()
})

t.test('a drain ends all streams and opens none; who left keeps no place', async t => {
  const id = await runningRun()
  const streams = new MigrationStreams(PACE)
  for (let i = 0; i < 40; i++) {
    const gone = new AbortController()
    await streams.open(store, id, null, gone.signal)
    gone.abort()
  }
  await t.rejects(streams.open(store, randomUUID(), null, new AbortController().signal), {
    code: 'NOT_FOUND',
  })
  const gone = new AbortController()
  const open = await Promise.all(
    Array.from({ length: 16 }, () => streams.open(store, id, null, gone.signal)),
  )
  await t.rejects(streams.open(store, id, null, gone.signal), { code: 'OVERLOADED' })
  const all = Promise.all(open.map(stream => read(stream)))
  streams.close()
  for (const text of await all) t.notMatch(text, /event: end/)
  await t.rejects(streams.open(store, id, null, gone.signal), { code: 'SHUTTING_DOWN' })
})
