import t from 'tap'
import { errorForLog, messageForLog } from './log-error.ts'

const MARKER = 'planted-marker'

t.test(
  'of an error its kind, code, text, stack and causes are told, and nothing that hangs on it',
  async t => {
    const cause = Object.assign(new TypeError('inner'), { headers: { authorization: MARKER } })
    const error = Object.assign(new Error('outer', { cause }), {
      code: 'ECONNRESET',
      client: { password: MARKER },
      detail: `Key (email)=(${MARKER}) already exists.`,
      rawPacket: Buffer.from(MARKER),
      errors: [new Error(MARKER)],
    })
    const told = errorForLog(error)
    t.match(told, {
      type: 'Error',
      message: 'outer',
      code: 'ECONNRESET',
      stack: /^Error: outer\n +at /,
      cause: { type: 'TypeError', message: 'inner' },
    })
    t.notMatch(JSON.stringify(told), MARKER)
    t.notMatch(JSON.stringify(told), Buffer.from(MARKER).toJSON().data.join(','))
  },
)

t.test('what is thrown and is no error is not told', async t => {
  for (const thrown of [MARKER, { secret: MARKER }, [MARKER], null, undefined]) {
    t.notMatch(JSON.stringify(errorForLog(thrown)), MARKER)
  }
})

t.test('a message that quotes what could not be read loses it, in the stack too', async t => {
  const texts = [`{"password": ${MARKER}}`, `"${MARKER}`, `${MARKER}${MARKER}${MARKER}${MARKER}`]
  const errors: Error[] = texts.map(text => {
    try {
      return JSON.parse(text) as Error
    } catch (error) {
      return error as Error
    }
  })
  errors.push(
    Object.assign(new Error(`invalid input syntax for type uuid: "${MARKER}"`), { code: '22P02' }),
    Object.assign(new Error(`time zone '${MARKER}' not recognized`), { code: '22023' }),
  )
  for (const error of errors) {
    t.ok(error instanceof Error)
    for (const told of [JSON.stringify(errorForLog(error)), messageForLog(error)]) {
      t.notMatch(told, /planted|marker/, error.message)
    }
  }
  t.equal(messageForLog(new Error('relation "x" does not exist')), 'relation "x" does not exist')
})

t.test('a ring of causes ends', async t => {
  const ring = new Error('ring')
  ring.cause = ring
  t.equal(JSON.stringify(errorForLog(ring)).split('"message":"ring"').length, 7)
})
