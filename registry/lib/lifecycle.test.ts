import { spawn } from 'node:child_process'
import { once } from 'node:events'
import t from 'tap'

const lifecycle = new URL('./lifecycle.ts', import.meta.url).href
const log = `{ info() {}, error() {}, fatal() { console.log('fatal') } }`

/** Runs `source` in a process of its own; `up` in its output means that it waits. */
async function start(source: string) {
  const code = `import { onTermination, runMain } from '${lifecycle}'\n${source}`
  const child = spawn(process.execPath, ['--input-type=module', '-e', code])
  const texts = { out: '', err: '' }
  const ended = once(child, 'close').then(([exitCode]) => ({ exitCode, ...texts }))
  child.stderr.on('data', chunk => {
    texts.err += chunk
  })
  const up = new Promise<void>(resolve => {
    child.stdout.on('data', chunk => {
      texts.out += chunk
      if (texts.out.includes('up')) resolve()
    })
  })
  return {
    child,
    ended: async () => ({ ...(await ended), ...texts }),
    up: Promise.race([up, ended]),
  }
}

const WAIT = `setInterval(() => {}, 1000); console.log('up')`

t.test('SIGTERM stops once and exits 0; a stop that fails exits 1', async t => {
  for (const [stop, exitCode] of [
    [`console.log('stopped')`, 0],
    [`throw new Error('x')`, 1],
  ] as const) {
    const run = await start(`onTermination(${log}, 5000, async () => { ${stop} }); ${WAIT}`)
    await run.up
    run.child.kill('SIGTERM')
    t.match(await run.ended(), { exitCode })
  }
})

t.test('a second signal, or a drain that takes too long, ends it with 1', async t => {
  const hang = (drainMs: number) =>
    start(
      `onTermination(${log}, ${drainMs}, () => { console.log('draining'); return new Promise(() => {}) }); ${WAIT}`,
    )
  const twice = await hang(60_000)
  await twice.up
  twice.child.stdout.on('data', chunk => {
    if (String(chunk).includes('draining')) twice.child.kill('SIGINT')
  })
  twice.child.kill('SIGTERM')
  t.match(await twice.ended(), { exitCode: 1 })
  const slow = await hang(-900)
  await slow.up
  slow.child.kill('SIGTERM')
  t.match(await slow.ended(), { exitCode: 1 })
})

t.test('an uncaught error and an unhandled rejection end it with 70', async t => {
  for (const fault of [
    `setTimeout(() => { throw new Error('x') })`,
    `Promise.reject(new Error('x'))`,
  ]) {
    const run = await start(`onTermination(${log}, 100, async () => {}); ${WAIT}; ${fault}`)
    t.match(await run.ended(), { exitCode: 70, out: /fatal/ })
  }
})

t.test('an error at start is one line and exit 1', async t => {
  const run = await start(`runMain(async () => { throw new Error('no such thing') })`)
  t.match(await run.ended(), { exitCode: 1, err: 'doorman: no such thing\n' })
})
