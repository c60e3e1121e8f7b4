import t from 'tap'
import type { Fault } from '../registry/lib/errors.ts'
import type { Exchange } from './exchange.ts'
import { checkHandshake } from './handshake.ts'
import { cleanHeaders } from './headers.ts'

const SOUND = {
  Upgrade: 'WebSocket',
  'Sec-WebSocket-Key': 'dGhlIHNhbXBsZSBub25jZQ==',
  'Sec-WebSocket-Version': '13',
}
const judge = (fields: readonly string[], method = 'GET') => {
  try {
    checkHandshake({ method, head: cleanHeaders(fields, 100) } as unknown as Exchange)
    return 'taken'
  } catch (error) {
    return (error as Fault).code
  }
}
const changed = (change: object) =>
  Object.entries({ ...SOUND, ...change })
    .filter(([, value]) => value !== null)
    .flat()

t.test('a handshake by RFC 6455 is taken, and nothing else', async t => {
  t.equal(judge(changed({})), 'taken')
  t.equal(judge(changed({ 'Sec-WebSocket-Key': 'x3JJHMbDL1EzLkh9GBhXDw==' })), 'taken')
  const malformed: [string, object][] = [
    ['h2c', { Upgrade: 'h2c' }],
    ['a list', { Upgrade: 'websocket, h2c' }],
    ['no key', { 'Sec-WebSocket-Key': null }],
    ['15 bytes', { 'Sec-WebSocket-Key': 'AAAAAAAAAAAAAAAAAAAA' }],
    ['17 bytes', { 'Sec-WebSocket-Key': 'AAAAAAAAAAAAAAAAAAAAAAA=' }],
    ['bits too many', { 'Sec-WebSocket-Key': 'AAAAAAAAAAAAAAAAAAAAAB==' }],
    ['the other alphabet', { 'Sec-WebSocket-Key': 'AAAAAAAAAAAAAAAAAAAA_g==' }],
  ]
  for (const [name, change] of malformed) t.equal(judge(changed(change)), 'BAD_REQUEST', name)
  t.equal(judge(changed({}), 'POST'), 'BAD_REQUEST')
  t.equal(judge([...changed({}), 'sec-websocket-key', SOUND['Sec-WebSocket-Key']]), 'BAD_REQUEST')
  for (const version of [null, '', '8', '13, 8', '013']) {
    const code = judge(changed({ 'Sec-WebSocket-Version': version }))
    t.equal(code, 'WEBSOCKET_VERSION_UNSUPPORTED', `version ${version}`)
  }
  t.equal(judge([...changed({}), 'sec-websocket-version', '13']), 'WEBSOCKET_VERSION_UNSUPPORTED')
})
