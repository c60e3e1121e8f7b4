import t from 'tap'
import { makeLog } from '../registry/lib/log.ts'
import { makeAccessLog } from './access-log.ts'
import { type Exchange, makeExchange } from './exchange.ts'

const NOW_MS = 1_000_000

function logged(percent: number, exchanges: readonly Partial<Exchange>[], level = 'info') {
  const lines: Record<string, unknown>[] = []
  const log = makeLog('test', level, { write: line => void lines.push(JSON.parse(line)) })
  const write = makeAccessLog(log, percent)
  const client = { address: '192.0.2.1', isTls: false }
  for (const over of exchanges) {
    const exchange = makeExchange(
      'GET',
      '/api/x?token=secret',
      [],
      client,
      null,
      null as never,
      null,
    )
    write(
      Object.assign(exchange, { path: '/api/x', status: 200, ...over }),
      () => '192.0.2.1',
      1.23456,
      NOW_MS,
    )
  }
  return lines
}

t.test(
  'a line says who asked what, how it ended and how long it took, without the query',
  async t => {
    const [line] = logged(100, [{ requestId: 'r-1', bytesOut: 7 }])
    t.match(line, {
      request_id: 'r-1',
      method: 'GET',
      path: '/api/x',
      status: 200,
      ms: 1.23,
      bytes_out: 7,
    })
    t.notMatch(JSON.stringify(line), /secret/)
  },
)

t.test('of requests without a failure the wanted share is written, of failures all', async t => {
  const good = Array.from({ length: 1000 }, () => ({}))
  const bad = Array.from({ length: 10 }, () => ({ status: 401, errorCode: 'TOKEN_INVALID' }))
  for (const percent of [0, 1, 33, 100]) {
    t.equal(logged(percent, good).length, 10 * percent, `${percent} %`)
    t.equal(logged(percent, bad).length, 10)
  }
})

t.test('a failure of ours is a warning, one of the client is not', async t => {
  const levels = logged(100, [
    { status: 503, errorCode: 'INTERNAL' },
    { status: 401, errorCode: 'TOKEN_INVALID' },
  ]).map(line => line.level)
  t.strictSame(levels, ['warn', 'info'])
  t.equal(logged(100, [{}], 'warn').length, 0)
})

t.test('a claim can neither end a line nor hide or forge one', async t => {
  const lines: string[] = []
  const log = makeLog('test', 'info', { write: line => void lines.push(line) })
  const exchange = makeExchange(
    'GET',
    '/',
    [],
    { address: 'a', isTls: false },
    null,
    null as never,
    null,
  )
  const sub = 'a\r\n{"level":"fatal"}\u2028b\u2029c\u202ed\u009b31m\x7fe\u00e4\u{1f600}'
  makeAccessLog(log, 100)(Object.assign(exchange, { principal: { sub } }), () => 'a', 1, NOW_MS)
  const [line = ''] = lines
  t.match(line, /^[^\n\r\u2028\u2029\u202e\x7f-\x9f]*\n$/)
  const { user, level } = JSON.parse(line)
  t.equal(level, 'info')
  t.equal(user, 'a\r\n{"level":"fatal"}\\u2028b\\u2029c\\u202ed\\u009b31m\\u007fe\u00e4\u{1f600}')
})

t.test('a line tells where the time went, and which trace it belongs to', async t => {
  const traceId = '0af7651916cd43dd8448eb211c80319c'
  const times = { signedAt: 1000.25, sentAt: 1003, upstreamHeadAt: 1053, answeredAt: 1053.5 }
  const waits = { identifiedAt: 1000.1, resolvedAt: 1000.2 }
  const [fast, slow, refused] = logged(100, [
    { traceId, startedAt: 1000, ...times },
    { traceId, startedAt: 1000, ...times, ...waits },
    { startedAt: 1000, status: 400, errorCode: 'BAD_REQUEST' },
  ])
  const phases = { admit_ms: 0.25, wait_ms: 2.75, upstream_ms: 50, added_ms: 3.5 }
  t.match(fast, { trace_id: traceId, ...phases })
  for (const name of ['identify_ms', 'resolve_ms', 'sign_ms']) t.notOk(name in (fast ?? {}), name)
  t.match(slow, { ...phases, identify_ms: 0.1, resolve_ms: 0.1, sign_ms: 0.05 })
  t.notMatch(Object.keys(refused ?? {}).join(), /trace_id|_ms/, 'nothing that was not reached')
})

t.test(
  'of a tenant that is debugged every request is told in full, until the time is over',
  async t => {
    const tenantUntil = (debugUntilMs: number) =>
      ({ id: 'id', key: 'acme', configVersion: 7, status: 'active', debugUntilMs }) as never
    const head = { authorization: 'Bearer planted', cookie: 'planted' } as never
    const request = { tenant: tenantUntil(NOW_MS + 1), head, rawHeaders: ['x', 'planted'] }
    for (const level of ['info', 'warn']) {
      const lines = logged(0, [request, request], level)
      t.equal(lines.length, 2, level)
      t.match(lines[0], { debug: true, tenant: 'acme', tenant_version: 7, status: 200 })
      t.notMatch(JSON.stringify(lines), 'planted')
    }
    t.equal(logged(0, [{ tenant: tenantUntil(NOW_MS) }]).length, 0, 'it ends by itself')
    t.equal(logged(0, [{ tenant: tenantUntil(0) }, { tenant: null }]).length, 0)
  },
)
