import { randomUUID } from 'node:crypto'
import t from 'tap'
import { RegistryStore } from '../store.ts'
import { silent, startTestRegistry } from '../test-kit.ts'
import { runnerEnv, startRunner } from './runner-process.ts'
import {
  addOnlyRun,
  addRun,
  cancelRun,
  claimRun,
  findLiveRun,
  findRun,
  giveUpRun,
  listRuns,
  RUNS_KEPT,
  type RunOptions,
} from './runs.ts'

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
const of = (isFleet: boolean) => ({ startedBy: 'test', isFleet, options })
const only = () => store.transaction(client => addOnlyRun(client, of(true)))

t.test('of runs that are begun all at once one is; it goes to one process', async t => {
  const begun = await Promise.allSettled([only(), only(), only(), only()])
  const [id, ...others] = begun.flatMap(one => (one.status === 'fulfilled' ? one.value : []))
  t.equal(others.length, 0)
  for (const one of begun) {
    if (one.status === 'rejected') t.match(one.reason, { code: 'CONFLICT', publicMessage: id })
  }
  const claims = await Promise.all(['a', 'b', 'c'].map(name => claimRun(store, id as string, name)))
  t.equal(claims.filter(claim => claim !== null).length, 1)
  t.match(
    claims.find(claim => claim !== null),
    { options, selection: null },
  )
  t.match(await findLiveRun(store), { id, state: 'running', tenants: null })
  await giveUpRun(store, id as string, 'over')
  t.match(await findRun(store, id as string), { state: 'interrupted', problem: 'over' })
  t.equal(await findLiveRun(store), null)
  t.equal(await claimRun(store, id as string, 'late'), null)
  const cancelled = store.transaction(client => cancelRun(client, id as string, 'x'))
  t.equal(await cancelled, false, 'what is over cannot be cancelled')
})

t.test('a start that no process took is dead after a while, and bars no other', async t => {
  const id = await only()
  const age = (s: number) =>
    registry.admin.query(
      `UPDATE migration_runs SET heartbeat_at = now() - interval '${s} s' WHERE id = $1`,
      [id],
    )
  await age(50)
  t.match(await findRun(store, id), { state: 'starting' })
  await t.rejects(only(), { code: 'CONFLICT' })
  await age(61)
  t.match(await findRun(store, id), { state: 'interrupted' })
  const next = await only()
  t.match(await findRun(store, id), { problem: 'no heartbeat of its runner' })
  t.equal(await claimRun(store, id, 'late'), null, 'its process comes too late')
  await giveUpRun(store, next, 'over')
})

t.test('so many runs are kept, and never is one removed that is under way', async t => {
  const live = await addRun(store, of(false))
  await claimRun(store, live, 'test')
  const named = await addRun(store, of(false))
  await giveUpRun(store, named, 'over')
  await registry.admin.query(
    `INSERT INTO migration_failures (run_id, tenant_id, code, error, attempts)
     VALUES ($1, $2, 'X', 'x', 1)`,
    [named, randomUUID()],
  )
  for (let i = 0; i < RUNS_KEPT + 5; i++) {
    for (const isFleet of [true, false])
      await giveUpRun(store, await addRun(store, of(isFleet)), '')
    await registry.admin.query(
      `UPDATE migration_runs SET heartbeat_at = now() WHERE id = '${live}'`,
    )
  }
  const kept = await listRuns(store, 1000)
  t.equal(kept.filter(run => run.isFleet).length, RUNS_KEPT)
  t.equal(kept.filter(run => !run.isFleet && run.id !== live).length, RUNS_KEPT)
  t.ok(kept.some(({ id }) => id === live))
  t.equal(await findRun(store, named), null)
  t.equal((await registry.admin.query('SELECT FROM migration_failures')).rowCount, 0)
})

t.test(
  'a runner’s process ends by its deadline, by its caller, and says what was wrong',
  async t => {
    const env = { ...process.env, TENANT_REGISTRY_DB_URL: 'x', JWT_SECRET_ACCESS_TOKEN: 'secret' }
    t.notHas(runnerEnv(env), { JWT_SECRET_ACCESS_TOKEN: 'secret' })
    const wrong = await startRunner({ args: ['status'], env: runnerEnv(env) })
    t.match(await wrong.ended, { code: 1, complaint: /TENANT_REGISTRY_DB_URL/, isLate: false })
    const held = {
      ...env,
      TENANT_REGISTRY_DB_URL: registry.url,
      MASTER_ENCRYPTION_KEY: 'a'.repeat(64),
    }
    const late = await startRunner({ args: ['--watch'], env: held, deadlineMs: 1 })
    t.match(await late.ended, { isLate: true })
    const stop = AbortSignal.abort()
    const stopped = await startRunner({ args: ['--watch'], env: held, signal: stop })
    t.match(await stopped.ended, { isLate: false })
  },
)
