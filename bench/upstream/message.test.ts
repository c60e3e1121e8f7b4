import t from 'tap'
import { MessageReader } from './message.ts'

const GET = 'GET /api/10k HTTP/1.1\r\nHost: a\r\n\r\n'
const POST = 'POST /api/small HTTP/1.1\r\nContent-Length: 4\r\n\r\nbody'
const CHUNKED = 'POST /c HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n'
const UPGRADE = 'GET /api/ws HTTP/1.1\r\nUpgrade: websocket\r\n\r\n'

const paths = (reader: MessageReader, text: string) =>
  reader.push(Buffer.from(text, 'latin1')).map(message => message.path)

t.test('requests are told apart wherever the bytes are split', async t => {
  const stream = GET + POST + CHUNKED + GET + POST
  const expected = ['/api/10k', '/api/small', '/c', '/api/10k', '/api/small']
  t.same(paths(new MessageReader(), stream), expected)
  for (let split = 1; split < stream.length; split++) {
    const reader = new MessageReader()
    const found = [...paths(reader, stream.slice(0, split)), ...paths(reader, stream.slice(split))]
    t.same(found, expected, `split at ${split}`)
  }
})

t.test('nothing is answered before the body is complete', async t => {
  const reader = new MessageReader()
  t.same(paths(reader, POST.slice(0, -1)), [])
  t.same(paths(reader, 'y'), ['/api/small'])
})

t.test('an upgrade is seen, and a broken chunk is refused', async t => {
  t.equal(new MessageReader().push(Buffer.from(UPGRADE))[0]?.isUpgrade, true)
  t.equal(new MessageReader().push(Buffer.from(GET))[0]?.isUpgrade, false)
  t.throws(() => paths(new MessageReader(), CHUNKED.replace('4\r\n', 'zz\r\n')))
})
