import t from 'tap'
import { Llhttp } from './server-llhttp.ts'
import { isRefusal, readRequestHead } from './server-request-head.ts'

/** Parses one message, fed in pieces cut at `cuts`. */
function parse(text: string, cuts: number[] = [], fieldsMax = 100) {
  const llhttp = new Llhttp(fieldsMax)
  const bytes = Buffer.from(text, 'latin1')
  const parser = llhttp.borrow()
  const edges = [...cuts, bytes.length]
  let at = 0
  let head: ReturnType<typeof readRequestHead> | null = null
  let body = ''
  for (const edge of edges) {
    while (at < edge) {
      const result = llhttp.execute(parser, bytes, at, edge)
      at += parser.consumed
      if (result === 'head') head = readRequestHead(bytes.toString('latin1', 0, at), parser)
      else if (result === 'end') return { head, body: body + (parser.takeBody() ?? ''), rest: at }
      else if (result !== 'more') return { head, body, error: result }
      body += parser.takeBody() ?? ''
      if (head !== null && (isRefusal(head) || head.length !== null))
        return { head, body, rest: at }
    }
  }
  return { head, body, error: 'incomplete' }
}

t.test('a head and a chunked body split at any two bytes are read as if in one piece', async t => {
  const text =
    'POST /a?b HTTP/1.1\r\nHost: x\r\nEmpty:\r\nBlank: \t\r\nEnd: v \r\n' +
    'Transfer-Encoding: chunked\r\n\r\n3;a=b\r\nabc\r\n02\r\nde\r\n0\r\nT: u\r\n\r\nGET'
  const whole = parse(text)
  t.match(whole, { body: 'abcde', rest: text.length - 3, head: { method: 'POST', target: '/a?b' } })
  t.strictSame(whole.head && 'rawHeaders' in whole.head && whole.head.rawHeaders, [
    'Host',
    'x',
    'Empty',
    '',
    'Blank',
    '',
    'End',
    'v',
    'Transfer-Encoding',
    'chunked',
  ])
  let same = 0
  for (let first = 1; first < text.length; first++) {
    for (let second = first + 1; second < text.length; second += 7) {
      const split = parse(text, [first, second])
      if (JSON.stringify(split) !== JSON.stringify(whole)) t.fail(`split at ${first}, ${second}`)
      same++
    }
  }
  t.ok(same > 1000)
})

t.test(
  'parsers are used again, also after an error, and more of them may be in use at once',
  async t => {
    const llhttp = new Llhttp(100)
    const bad = llhttp.borrow()
    const junk = Buffer.from('\0\0\0')
    t.equal(llhttp.execute(bad, junk, 0, 3), 'bad')
    llhttp.giveBack(bad)
    const again = llhttp.borrow()
    t.equal(again, bad)
    const good = Buffer.from('GET / HTTP/1.1\r\nHost: a\r\n\r\n')
    t.equal(llhttp.execute(again, good, 0, good.length), 'head')
    // Enough to make the memory grow, which moves it.
    const many = Array.from({ length: 5000 }, () => llhttp.borrow())
    for (const parser of many) {
      if (llhttp.execute(parser, good, 0, 10) !== 'more') t.fail('first part')
    }
    for (const parser of many) {
      if (llhttp.execute(parser, good, 10, good.length) !== 'head') t.fail('second part')
    }
  },
)

t.test('fields beyond the limit end the head, they are never framed by unseen', async t => {
  const head = (fields: number) =>
    `POST / HTTP/1.1\r\n${'a: b\r\n'.repeat(fields)}Content-Length: 5\r\n\r\nhello`
  t.equal(parse(head(100)).error, 'too-many-fields')
  t.equal(parse(`GET / HTTP/1.1\r\nHost: a\r\n${'a: b\r\n'.repeat(99)}\r\n`).error, undefined)
  t.equal(
    parse(`GET / HTTP/1.1\r\nHost: a\r\n${'a: b\r\n'.repeat(100)}\r\n`).error,
    'too-many-fields',
  )
})

t.test('extensions and trailers of a chunked body are bounded', async t => {
  const head = 'POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n'
  t.equal(parse(`${head}1;${'x'.repeat(17_000)}\r\na\r\n0\r\n\r\n`).error, 'bad')
  t.equal(parse(`${head}1\r\na\r\n0\r\n${'x: y\r\n'.repeat(4000)}\r\n`).error, 'bad')
  t.equal(parse(`${head}1;${'x'.repeat(1000)}\r\na\r\n0\r\nx: y\r\n\r\n`).body, 'a')
})

t.test('chunked bodies are read strictly', async t => {
  const head = 'POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n'
  for (const body of [
    '1 \r\na\r\n0\r\n\r\n',
    ' 1\r\na\r\n0\r\n\r\n',
    '+1\r\na\r\n0\r\n\r\n',
    '-1\r\na\r\n0\r\n\r\n',
    '0x1\r\na\r\n0\r\n\r\n',
    '\r\na\r\n0\r\n\r\n',
    '1\na\r\n0\r\n\r\n',
    '1\r\na\n0\r\n\r\n',
    '1\r\naa\r\n0\r\n\r\n',
    '1;a\nb\r\na\r\n0\r\n\r\n',
    '1;a\0b\r\na\r\n0\r\n\r\n',
    '1\r\na\r\n0\r\nContent-Length: 5\r\n\r\n',
    '1\r\na\r\n0\r\na b: c\r\n\r\n',
    '11111111111111111\r\na\r\n0\r\n\r\n',
  ]) {
    t.equal(parse(head + body).error, 'bad', JSON.stringify(body))
  }
})
