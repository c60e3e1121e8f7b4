import { spawn } from 'node:child_process'
import { once } from 'node:events'
import t from 'tap'
import { parseStat, usageOfTree } from './proc.ts'

const HAS_PROC = process.platform === 'linux'

t.test('fields are counted from the end of the name, whatever the name holds', async t => {
  const tail = `S 42 1 1 0 -1 0 0 0 0 0 100 20 3 4 20 0 1 0 99 1000 77 0`
  t.same(parseStat(`7 (a) b (c) ${tail}`), { parent: 42, ticks: 127, pages: 77 })
})

t.test('CPU time of a child process counts for its parent', { skip: !HAS_PROC }, async t => {
  const burn = `
    const { spawn } = require('node:child_process')
    spawn(process.execPath, ['-e', "const end = Date.now() + 150; while (Date.now() < end); console.log('done'); setInterval(() => {}, 1000)"], { stdio: 'inherit' })`
  const parent = spawn(process.execPath, ['-e', burn], {
    stdio: ['ignore', 'pipe', 'inherit'],
    detached: true,
  })
  t.teardown(() => {
    if (parent.pid !== undefined) process.kill(-parent.pid, 'SIGKILL')
  })
  await once(parent.stdout, 'data')
  const usage = usageOfTree(parent.pid as number)
  t.ok(usage.cpuUs >= 50_000, `${usage.cpuUs} µs`)
  t.ok(usage.rssBytes > 20 * 2 ** 20, `${usage.rssBytes} bytes: two Node processes`)
})

t.test('a process that is gone uses nothing', { skip: !HAS_PROC }, async t => {
  t.same(usageOfTree(2 ** 30), { cpuUs: 0, rssBytes: 0 })
})
