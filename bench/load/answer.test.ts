import t from 'tap'
import { AnswerReader } from './answer.ts'

const push = (reader: AnswerReader, text: string) =>
  reader.push(Buffer.from(text, 'latin1'), text.length)

t.test('an answer is complete at its last byte, wherever it is split', async t => {
  const answers = [
    'HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX: y\r\n\r\nhello',
    'HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n',
  ]
  for (const text of answers) {
    for (let split = 1; split < text.length; split++) {
      const reader = new AnswerReader()
      t.equal(push(reader, text.slice(0, split)), false)
      t.equal(push(reader, text.slice(split)), true)
      t.equal(reader.status, 200)
    }
  }
})

t.test('one reader reads one answer after the other', async t => {
  const reader = new AnswerReader()
  t.equal(push(reader, 'HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n'), true)
  t.equal(push(reader, 'HTTP/1.1 503 No\r\ncontent-length: 2\r\nConnection: close\r\n\r\nno'), true)
  t.equal(reader.status, 503)
  t.equal(reader.isLast, true)
})

t.test('bytes after an answer, and answers without framing, are errors', async t => {
  t.throws(() => push(new AnswerReader(), 'HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nab'))
  t.throws(() => push(new AnswerReader(), 'HTTP/1.1 200 OK\r\nX: y\r\n\r\n'))
  t.throws(() => push(new AnswerReader(), 'x'.repeat(20_000)))
})
