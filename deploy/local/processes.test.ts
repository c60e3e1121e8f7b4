import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { freePort } from './ports.ts'
import { startProcess, untilReady } from './processes.ts'

const never = new AbortController().signal

async function scriptOf(code: string): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'doorman-processes-test-'))
  t.teardown(() => rm(folder, { recursive: true, force: true }))
  await writeFile(join(folder, 'script.mjs'), code)
  return join(folder, 'script.mjs')
}

t.test('a process that dies early is reported with its last lines', async t => {
  const script = await scriptOf(`console.error('DB_URL is required'); process.exitCode = 3`)
  const lines: string[] = []
  const running = startProcess({ name: 'app', script, env: {}, onLine: line => lines.push(line) })
  const url = `http://127.0.0.1:${await freePort()}/readyz`
  await t.rejects(untilReady(running, url, 20_000, never), /app ended \(exit code 3\)\n {2}DB_URL/)
  t.same(lines, ['DB_URL is required'])
  await running.stop(1000)
})

t.test('a process that ignores SIGTERM is killed after the grace', async t => {
  const script = await scriptOf(`
    process.on('SIGTERM', () => console.log('ignored'))
    setInterval(() => {}, 1000)
    console.log('up')`)
  const lines: string[] = []
  const up = new Promise<void>(resolve => {
    const running = startProcess({
      name: 'app',
      script,
      env: {},
      onLine: line => {
        lines.push(line)
        if (line === 'up') resolve(running.stop(300))
      },
    })
    t.teardown(() => running.stop(0))
    void running.exited.then(text => lines.push(text.split('\n')[0] ?? ''))
  })
  await up
  t.match(lines, ['up', 'ignored'])
  t.not(lines.includes('app ended (exit code 0)'), true)
})

t.test('the environment of the parent is not inherited', async t => {
  const script = await scriptOf(`console.log(String(process.env.HOME))`)
  const lines: string[] = []
  const env = { PLAIN: '1' }
  const running = startProcess({ name: 'app', script, env, onLine: line => lines.push(line) })
  await running.exited
  t.same(lines, ['undefined'])
})
