import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { startGateway, startWorld, type World } from '../../gateway/test-kit.ts'
import { CONTEXT_HEADER, REQUEST_HEADER, verifyRequest } from '../../registry/context.ts'
import { compliance } from './probe/compliance.ts'
import { malformed } from './probe/malformed.ts'
import { own } from './probe/own.ts'
import { DEVIATIONS, isSmuggling, renderScores, type Scored } from './probe/scores.ts'
import { smuggling } from './probe/smuggling.ts'
import { ask, type Reached, RecordingApp, type Seen } from './probe/test-kit.ts'
import type { Probe } from './probe/verdict.ts'

const SCORES = join(import.meta.dirname, 'probe/SCORES.md')
const PROBES = [...compliance, ...smuggling, ...malformed, ...own]
const AT_ONCE = 24

t.test('malformed, ambiguous and rare messages, over raw sockets to the real binary', async t => {
  const world = await startWorld()
  const app = new RecordingApp()
  const acme = await world.createTenant('acme')
  const gateway = await startGateway({ ...world.env, APP_UPSTREAMS: await app.listen() })
  t.teardown(async () => {
    await gateway.stop('SIGKILL')
    app.close()
    await world.close()
  })
  const token = world.token(acme)
  const seen: Seen[] = []
  const queue = [...PROBES.entries()]
  const work = async () => {
    for (let next = queue.shift(); next !== undefined; next = queue.shift()) {
      const [i, probe] = next
      seen[i] = await ask(gateway.port, probe, { target: targetOf(i), token })
    }
  }
  await Promise.all(Array.from({ length: AT_ONCE }, work))
  const scored: Scored[] = PROBES.map((probe, i) => {
    const outcome = seen[i] as Seen
    return { probe, outcome, verdict: probe.rule.judge(outcome) }
  })

  t.test('no probe fails, and each that does not pass has its reason', async t => {
    for (const { probe, outcome, verdict } of scored) {
      t.not(verdict, 'fail', `${probe.id}: ${outcome.status}, wanted ${probe.rule.text}`)
      if (probe.peer === null) t.equal(verdict, 'pass', probe.id)
      if (verdict === 'warn') t.type(DEVIATIONS[probe.id], 'string', probe.id)
    }
    const names = new Set(PROBES.map(({ id }) => id))
    t.equal(names.size, PROBES.length, 'no name twice')
    for (const id of Object.keys(DEVIATIONS)) t.ok(names.has(id), id)
  })

  t.test(
    'the questions are those that Http11Probe scores, and more pass than of any other',
    async t => {
      const of = (...sets: string[]) => scored.filter(({ probe }) => sets.includes(probe.scored))
      const passed = (list: Scored[]) => list.filter(({ verdict }) => verdict === 'pass').length
      t.equal(of('both', 'then').length, 125)
      t.equal(of('both', 'now').length, 161)
      t.ok(passed(of('both', 'then')) > 112)
      t.equal(scored.filter(one => isSmuggling(one) && one.verdict === 'fail').length, 0)
    },
  )

  t.test('what is refused never reaches the app, what is served reaches it once', async t => {
    t.strictSame(app.strays, [], 'nothing else reaches it')
    for (const [i, probe] of PROBES.entries()) {
      const whole = app.reached.filter(({ target, isWhole }) => isWhole && isOf(target, i))
      t.equal(whole.length, seen[i]?.relayed, probe.id)
    }
    t.ok(
      app.reached.every(({ target }) => PROBES.some((_, i) => isOf(target, i))),
      'nothing was rewritten',
    )
  })

  t.test(
    'whatever reaches the app carries one context of its tenant, bound to this request',
    async t => {
      t.ok(app.reached.length > 50)
      for (const request of app.reached) {
        t.equal(
          await problemOf(request, world, acme.id),
          null,
          `${request.method} ${request.target}`,
        )
      }
    },
  )

  t.test('claims are data: no byte of them stands in a field as it is', async t => {
    const hostile = 'a\r\nx-evil: 1\r\n\r\nGET /evil HTTP/1.1\u010a\u0d0a\u2028\0\ud83d\ude00\x7f'
    const claims = { id: hostile, email: hostile, role_id: hostile, jti: hostile }
    const target = '/api/claims'
    const probe: Probe = { ...(PROBES[0] as Probe), id: 'claims' }
    const outcome = await ask(gateway.port, probe, { target, token: world.token(acme, claims) })
    t.equal(outcome.status, 200)
    const reached = app.reached.filter(request => request.target === target)
    t.equal(reached.length, 1)
    const [request] = reached as [Reached]
    t.notOk(request.fields.some(([name]) => name === 'x-evil'))
    for (const [name, value] of request.fields) t.match(value, /^[\x20-\x7e]*$/, name)
    t.equal(await problemOf(request, world, acme.id), null)
    const binding = request.fields.find(([name]) => name === REQUEST_HEADER)?.[1] ?? ''
    const principal = JSON.parse(Buffer.from(binding.split('.')[1] ?? '', 'base64url').toString())
    t.match(principal, { sub: hostile, email: hostile, role_id: hostile, jti: hostile }, 'whole')
    t.strictSame(app.strays, [])
  })

  t.test('nothing is answered by 500, and the gateway lives', async t => {
    t.notOk(seen.some(({ status }) => status === 500))
    t.equal(gateway.child.exitCode, null)
    t.equal((await fetch(`${gateway.url}/healthz`)).status, 200)
  })

  t.test('SCORES.md says what came of it', async t => {
    const text = renderScores(scored)
    if (process.env.DOORMAN_WRITE_SCORES === '1') writeFileSync(SCORES, text)
    t.strictSame(readFileSync(SCORES, 'utf8').split('\n'), text.split('\n'))
  })
})

const HANDSHAKE_HOPS = new Set(['te', 'trailer', 'expect', 'keep-alive', 'proxy-connection'])
const HOPS = new Set([...HANDSHAKE_HOPS, 'connection', 'upgrade'])
const targetOf = (i: number) => `/api/probe/${i}`
const isOf = (target: string, i: number) => /^\/api\/probe\/(\d+)/.exec(target)?.[1] === String(i)

/** What is wrong with a request that the app got, or null. */
async function problemOf(request: Reached, world: World, tenantId: string): Promise<string | null> {
  const { method, target, fields } = request
  const all = (name: string) => fields.filter(field => field[0] === name).map(field => field[1])
  const contexts = all(CONTEXT_HEADER)
  const bindings = all(REQUEST_HEADER)
  if (contexts.length !== 1 || bindings.length !== 1) return 'not one context and one binding'
  const context = await world.verifier.verify(contexts[0] as string, Date.now())
  if (context.tid !== tenantId) return `the context of ${context.key}`
  verifyRequest(bindings[0] as string, context.mac, method, target, Date.now())
  // Of a handshake the gateway writes these two anew; any other field that ends at a hop is a client's.
  const isHandshake = all('upgrade')[0] === 'websocket' && all('connection')[0] === 'Upgrade'
  const hops = isHandshake ? HANDSHAKE_HOPS : HOPS
  const hop = fields.find(([name]) => hops.has(name))
  return hop === undefined ? null : `${hop[0]} went on`
}
