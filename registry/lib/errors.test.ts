import t from 'tap'
import { ERRORS, type ErrorCode, errorSpec, Fault, faultBody, toFault } from './errors.ts'

const codes = Object.keys(ERRORS) as ErrorCode[]

t.test(
  'the table keeps the contract: 401 only for credentials, Retry-After on 429 and 503, never 500',
  async t => {
    for (const code of codes) {
      const { status, retryAfterS, message, check } = errorSpec(code)
      t.not(status, 500, code)
      t.equal(retryAfterS !== undefined, status === 429 || status === 503, `${code}: Retry-After`)
      t.ok(message.length > 0 && check.length > 0)
      if (status === 401)
        t.match(
          code,
          /^(TOKEN_|TENANT_UNKNOWN|INVALID_CREDENTIALS|CONTEXT_INVALID|ADMIN_(KEY_INVALID|SESSION_ENDED))/,
        )
    }
  },
)

t.test('a client sees the public text, never the reason or the cause', async t => {
  const fault = new Fault('REGISTRY_UNAVAILABLE', 'MARKER', { cause: new Error('MARKER') })
  t.strictSame(JSON.parse(faultBody(fault, 'req-1')), {
    ...{ status: false, message: ERRORS.REGISTRY_UNAVAILABLE.message, result: null },
    ...{ code: 'REGISTRY_UNAVAILABLE', request_id: 'req-1' },
  })
  t.match(fault, { status: 503, retryAfterS: 2, reason: 'MARKER' })
  t.match(new Fault('CONFLICT', 'x', { publicMessage: 'name', retryAfterS: 9 }), {
    publicMessage: 'name',
    retryAfterS: 9,
  })
})

t.test('a refusal of fields names each beside the text, and no other answer has more', async t => {
  const problems = { db_port: 'is required' }
  const fault = new Fault('VALIDATION_FAILED', 'x', { publicMessage: 'db_port: …', problems })
  t.strictSame(JSON.parse(faultBody(fault, 'req-1')), {
    ...{ status: false, message: 'db_port: …', result: null },
    ...{ code: 'VALIDATION_FAILED', request_id: 'req-1', fields: problems },
  })
  const none = JSON.parse(faultBody(new Fault('VALIDATION_FAILED', 'x'), 'req-1'))
  t.strictSame(Object.keys(none), ['status', 'message', 'result', 'code', 'request_id'])
})

t.test('anything thrown becomes a fault; a fault stays itself', async t => {
  const fault = new Fault('NOT_FOUND', 'x')
  t.equal(toFault(fault), fault)
  for (const thrown of [new Error('x'), 'x', null, undefined, { a: 1 }]) {
    t.match(toFault(thrown), { code: 'INTERNAL', status: 503 })
  }
})
