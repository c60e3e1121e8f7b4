import { once } from 'node:events'
import type { Socket } from 'node:net'
import t from 'tap'
import { Inbox, RawClient, RawServer, until } from '../../gateway/http1/test-kit.ts'
import { until as eventually, startGateway, startWorld } from '../../gateway/test-kit.ts'
import { CONTEXT_HEADER } from '../../registry/context.ts'
import { ANSWERS, FORGED } from './probe/answers.ts'
import { type Answer, parseAnswers } from './probe/test-kit.ts'

/** One connection to the app, so that whatever an answer leaves behind would meet the next request. */
const ONE = '1'
const TARGET = /^[A-Z]+ \/api\/(answer|mine|late|ws)\/(\d+) HTTP/

t.test('an app that answers malformed, ambiguous or too much', async t => {
  const world = await startWorld()
  const [acme, globex] = [await world.createTenant('acme'), await world.createTenant('globex')]
  const served: { kind: string; socket: Socket }[] = []
  const app = new RawServer(socket => void serve(socket))
  const serve = async (socket: Socket) => {
    const inbox = new Inbox(socket)
    for (;;) {
      const head = await inbox.takeHead()
      if (head === null) return
      const [, kind = '', nth = ''] = TARGET.exec(head) ?? []
      served.push({ kind, socket })
      if (kind === 'answer') socket.write(ANSWERS[Number(nth)]?.answer ?? '', 'latin1')
      else if (kind === 'ws') socket.write(handshakes[Number(nth)] ?? '', 'latin1')
      else socket.write(mine(`${nth} of ${await tenantOf(head)}`))
    }
  }
  const tenantOf = async (head: string) => {
    const token = new RegExp(`\r\n${CONTEXT_HEADER}: (\\S+)`).exec(head)?.[1] ?? ''
    return (await world.verifier.verify(token, Date.now())).key
  }
  const gateway = await startGateway({
    ...world.env,
    APP_UPSTREAMS: await app.listen(),
    UPSTREAM_CONNECTIONS_MAX: ONE,
  })
  t.teardown(async () => {
    await gateway.stop('SIGKILL')
    app.close()
    await world.close()
  })
  const [first, second] = [world.token(acme), world.token(globex)]
  let handshakes: readonly string[] = []

  /** The whole answer, `cut` where it broke off, and everything that came. */
  const ask = async (target: string, token: string, method = 'GET', fields = '') => {
    const client = new RawClient(gateway.port)
    client.write(
      `${method} ${target} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer ${token}\r\n${fields}\r\n`,
    )
    let answers: Answer[] = []
    await until(() => {
      answers = parseAnswers(client.text, method === 'HEAD')
      return answers.length > 0 || client.hasEnded || client.error !== null
    })
    client.socket.destroy()
    return { answer: answers[0] ?? ('cut' as const), text: client.text }
  }

  t.test('what it answers to one tenant never reaches the other', async t => {
    for (const [i, { id, method = 'GET', want, isKept }] of ANSWERS.entries()) {
      const { answer, text } = await ask(`/api/answer/${i}`, first, method)
      if (want === 'cut') t.equal(answer, 'cut', id)
      else if (want === 502) t.match(answer, { status: 502, body: /UPSTREAM_BAD_RESPONSE/ }, id)
      else t.match(answer, want, id)
      t.notMatch(text, FORGED, id)
      const next = await ask(`/api/mine/${i}`, second)
      t.match(next.answer, { status: 200, body: `${i} of globex` }, `${id}: the next one`)
      t.notMatch(next.text, FORGED, id)
      const [before, after] = served.slice(-2)
      t.equal(before?.kind, 'answer', `${id}: is sent once`)
      t.equal(before?.socket === after?.socket, isKept, `${id}: is the connection used again`)
    }
  })

  t.test('a byte on a connection that waits ends it', async t => {
    for (const bytes of [' ', `HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\n${FORGED}`, '\r\n']) {
      await ask('/api/late/1', first)
      const { socket } = served.at(-1) as { socket: Socket }
      socket.write(bytes)
      await once(socket, 'close')
      const next = await ask('/api/mine/2', second)
      t.match(next.answer, { status: 200, body: '2 of globex' })
    }
  })

  t.test('no answer to a handshake leaves bytes that are read as something else', async t => {
    const key = 'Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n'
    const fields = `Connection: Upgrade\r\nUpgrade: websocket\r\n${key}`
    const cases: [string, number, string][] = [
      ['a 200 and more', 200, `${mine('ok')}${mine(FORGED)}`],
      [
        'a 403 with two framings',
        502,
        `HTTP/1.1 403 No\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n${FORGED}`,
      ],
      [
        'a 403 with two lengths',
        502,
        `HTTP/1.1 403 No\r\ncontent-length: 2\r\ncontent-length: 6\r\n\r\n${FORGED}`,
      ],
      [
        'LF alone',
        502,
        'HTTP/1.1 101 Switching Protocols\nupgrade: websocket\nconnection: upgrade\n\n',
      ],
      [
        'a NUL',
        502,
        'HTTP/1.1 101 Switching Protocols\r\na: \0\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n',
      ],
      ['a head of 100 KB', 502, `HTTP/1.1 101 Switching Protocols\r\na: ${'b'.repeat(100_000)}`],
      ['another protocol', 502, 'SSH-2.0-OpenSSH_9.9\r\n\r\n'],
    ]
    handshakes = cases.map(([, , answer]) => answer)
    for (const [i, [name, status]] of cases.entries()) {
      const { answer, text } = await ask(`/api/ws/${i}`, first, 'GET', fields)
      t.match(answer, { status }, name)
      t.notMatch(text, FORGED, name)
      t.match((await ask(`/api/mine/${i}`, second)).answer, { body: `${i} of globex` }, name)
    }
  })

  t.test('the gateway lives, answered nothing by 500, and holds no request', async t => {
    t.equal(gateway.child.exitCode, null)
    t.notOk(gateway.log.some(({ status }) => status === 500))
    await eventually(async () => {
      const metrics = await (await fetch(`${gateway.internalUrl}/metrics`)).text()
      return /^doorman_requests_in_flight 0$/m.test(metrics)
    })
  })
})

function mine(text: string): string {
  return `HTTP/1.1 200 OK\r\ncontent-length: ${text.length}\r\n\r\n${text}`
}
