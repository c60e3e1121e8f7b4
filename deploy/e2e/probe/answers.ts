/** What an app may answer, and what its client must get. */
export interface AnswerProbe {
  readonly id: string
  /** What it follows from: RFC section or advisory. */
  readonly source: string
  readonly answer: string
  readonly method?: 'GET' | 'HEAD'
  /** 502: refused as a whole. `cut`: its head was on the way, so the client sees an abort. A text: the body. */
  readonly want: 502 | 'cut' | { readonly status: number; readonly body: string }
  /** Whether the next request, of another tenant, may use the same connection. */
  readonly isKept: boolean
}

/** What must never be seen by anyone but who asked for it. */
export const FORGED = 'FORGED'

const OK = 'HTTP/1.1 200 OK\r\n'
const PLAIN = `${OK}content-length: 2\r\n\r\nok`
const NEXT = `${OK}content-length: 6\r\n\r\n${FORGED}`
const chunked = (body: string) => `${OK}transfer-encoding: chunked\r\n\r\n${body}`
const framed = (...fields: string[]) => `${OK}${fields.join('\r\n')}\r\n\r\nok`

type Row = readonly [id: string, source: string, answer: string]

export const ANSWERS: readonly AnswerProbe[] = [
  ...rows(502, false, [
    [
      'length and chunked',
      'RFC 9112 6.3',
      framed('content-length: 2', 'transfer-encoding: chunked'),
    ],
    ['two lengths', 'RFC 9112 6.3', framed('content-length: 2', 'content-length: 8')],
    ['a list of lengths', 'RFC 9110 8.6', framed('content-length: 2, 2')],
    ['a signed length', 'RFC 9110 8.6', framed('content-length: +2')],
    ['a length past 2^53', 'RFC 9110 8.6', framed('content-length: 9007199254740993')],
    ['gzip, chunked', 'RFC 9112 6.3', framed('transfer-encoding: gzip, chunked')],
    ['chunked, gzip', 'RFC 9112 6.3', framed('transfer-encoding: chunked, gzip')],
    [
      'chunked twice',
      'RFC 9112 6.1',
      framed('transfer-encoding: chunked', 'transfer-encoding: chunked'),
    ],
    [
      'chunked in HTTP/1.0',
      'RFC 9112 6.1',
      `HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n`,
    ],
    ['a blank before the colon', 'RFC 9112 5.1', framed('content-length : 2')],
    ['a folded field', 'RFC 9112 5.2', framed('a: b', ' c', 'content-length: 2')],
    ['LF alone', 'RFC 9112 2.2', `${OK}a: b\ncontent-length: 2\r\n\r\nok`],
    ['CR alone', 'RFC 9112 2.2', `${OK}a: b\rcontent-length: 2\r\n\r\nok`],
    ['a NUL', 'RFC 9110 5.5', framed('a: \0', 'content-length: 2')],
    ['a field without a name', 'RFC 9112 5', framed(': a', 'content-length: 2')],
    ['an empty line first', 'RFC 9112 2.2', `\r\n${PLAIN}`],
    ['another protocol', 'RFC 9112 4', 'SSH-2.0-OpenSSH_9.9\r\n\r\n'],
    ['HTTP/2.0', 'RFC 9112 2.3', 'HTTP/2.0 200 OK\r\ncontent-length: 2\r\n\r\nok'],
    ['HTTP/0.9', 'RFC 9112 2.3', `<html>${FORGED}</html>\r\n\r\n`],
    ['a status of two digits', 'RFC 9112 4', 'HTTP/1.1 20 OK\r\ncontent-length: 2\r\n\r\nok'],
    ['a status of four digits', 'RFC 9112 4', 'HTTP/1.1 2000 OK\r\ncontent-length: 2\r\n\r\nok'],
    ['status 099', 'RFC 9110 15', 'HTTP/1.1 099 OK\r\ncontent-length: 2\r\n\r\nok'],
    ['status 600', 'RFC 9110 15', 'HTTP/1.1 600 OK\r\ncontent-length: 2\r\n\r\nok'],
    ['status +20', 'RFC 9112 4', 'HTTP/1.1 +20 OK\r\ncontent-length: 2\r\n\r\nok'],
    ['no blank before the status', 'RFC 9112 4', 'HTTP/1.1200 OK\r\ncontent-length: 2\r\n\r\nok'],
    [
      'a 101 that nobody asked for',
      'RFC 9110 7.8',
      `HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n${FORGED}`,
    ],
    ['20 interim answers', 'RFC 9110 15.2', 'HTTP/1.1 103 Early Hints\r\n\r\n'.repeat(20) + PLAIN],
    [
      'an interim answer with a body',
      'RFC 9110 15.2',
      `HTTP/1.1 103 Early Hints\r\ncontent-length: 6\r\n\r\n${FORGED}${PLAIN}`,
    ],
    [
      '201 fields',
      'HARDENING A.1',
      framed(...Array<string>(201).fill('a: b'), 'content-length: 2'),
    ],
    ['a head of 33 KB', 'HARDENING A.1', framed(`a: ${'b'.repeat(33_000)}`, 'content-length: 2')],
    ['a head without an end', 'HARDENING A.1', `${OK}a: ${'b'.repeat(80_000)}`],
  ]),
  ...rows('cut', false, [
    ['a chunk size with a sign', 'RFC 9112 7.1', chunked('+2\r\nok\r\n0\r\n\r\n')],
    ['a chunk size by hex prefix', 'RFC 9112 7.1', chunked('0x2\r\nok\r\n0\r\n\r\n')],
    ['a blank after a chunk size', 'RFC 9112 7.1', chunked('2 \r\nok\r\n0\r\n\r\n')],
    ['a chunk size past 2^53', 'RFC 9112 7.1', chunked('fffffffffffffff\r\nok')],
    ['a chunk that is too long', 'RFC 9112 7.1', chunked('2\r\nokk\r\n0\r\n\r\n')],
    ['LF alone after a chunk size', 'RFC 9112 2.2', chunked('2\nok\r\n0\r\n\r\n')],
    ['LF alone in an extension', 'CVE-2025-55315', chunked('2;a\nok\r\n0\r\n\r\n')],
    ['an extension of 5 KB', 'HARDENING A.6', chunked(`2;${'a'.repeat(5000)}\r\nok\r\n0\r\n\r\n`)],
    [
      'trailers of 40 KB',
      'HARDENING A.6',
      chunked(`2\r\nok\r\n0\r\n${'a: b\r\n'.repeat(7000)}\r\n`),
    ],
    ['a folded trailer', 'RFC 9112 5.2', chunked('2\r\nok\r\n0\r\na: b\r\n c\r\n\r\n')],
  ]),
  ...rows({ status: 200, body: 'ok' }, false, [
    ['an answer behind the answer', 'HARDENING A.6', PLAIN + NEXT],
    ['a byte behind the answer', 'HARDENING A.6', `${PLAIN}\n`],
    ['an answer behind the last chunk', 'HARDENING A.6', chunked('2\r\nok\r\n0\r\n\r\n') + NEXT],
    ['Connection: close', 'RFC 9112 9.6', framed('content-length: 2', 'connection: close')],
    ['HTTP/1.0', 'RFC 9112 9.3', 'HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nok'],
  ]),
  ...rows({ status: 204, body: '' }, false, [
    ['a 204 with a body', 'RFC 9110 15.3.5', `HTTP/1.1 204 No Content\r\n\r\n${FORGED}`],
    ['a 204 with a length', 'RFC 9110 8.6', 'HTTP/1.1 204 No Content\r\ncontent-length: 6\r\n\r\n'],
    [
      'a 204 with chunks',
      'RFC 9112 6.1',
      'HTTP/1.1 204 No Content\r\ntransfer-encoding: chunked\r\n\r\n',
    ],
  ]),
  ...rows({ status: 304, body: '' }, false, [
    ['a 304 with a body', 'RFC 9110 15.4.5', `HTTP/1.1 304 Not Modified\r\n\r\n${NEXT}`],
  ]),
  ...rows(
    { status: 200, body: '' },
    false,
    [['a body to HEAD', 'RFC 9110 9.3.2', `${OK}content-length: 6\r\n\r\n${FORGED}`]],
    'HEAD',
  ),
  ...rows({ status: 200, body: 'ok' }, true, [
    ['the same length twice', 'RFC 9110 8.6', framed('content-length: 2', 'content-length: 2')],
    ['15 interim answers', 'RFC 9110 15.2', 'HTTP/1.1 103 Early Hints\r\n\r\n'.repeat(15) + PLAIN],
    ['no reason', 'RFC 9112 4', 'HTTP/1.1 200\r\ncontent-length: 2\r\n\r\nok'],
    [
      'Connection lists what is ours',
      'RFC 9110 7.6.1',
      framed('content-length: 2', 'connection: keep-alive, x-request-id, content-length, date'),
    ],
    [
      'our own names',
      'HARDENING A.3',
      framed(
        'content-length: 2',
        'X-Tenant-Context: FORGED',
        'x_tenant_request: FORGED',
        'x-request-id: FORGED',
      ),
    ],
    [
      '200 fields',
      'HARDENING A.1',
      framed(...Array<string>(199).fill('a: b'), 'content-length: 2'),
    ],
    [
      'trailers',
      'RFC 9110 6.5.1',
      chunked(`2\r\nok\r\n0\r\nset-cookie: ${FORGED}\r\ncontent-length: 9\r\n\r\n`),
    ],
    ['an extension', 'RFC 9112 7.1.1', chunked('2;a="b"\r\nok\r\n0\r\n\r\n')],
  ]),
  ...rows(
    { status: 200, body: '' },
    true,
    [
      ['HEAD with a length', 'RFC 9110 9.3.2', `${OK}content-length: 600\r\n\r\n`],
      ['HEAD with chunks', 'RFC 9112 6.1', `${OK}transfer-encoding: chunked\r\n\r\n`],
    ],
    'HEAD',
  ),
  ...rows({ status: 304, body: '' }, true, [
    [
      'a 304 with a length',
      'RFC 9110 15.4.5',
      'HTTP/1.1 304 Not Modified\r\ncontent-length: 600\r\n\r\n',
    ],
  ]),
]

function rows(
  want: AnswerProbe['want'],
  isKept: boolean,
  list: readonly Row[],
  method: 'GET' | 'HEAD' = 'GET',
): AnswerProbe[] {
  return list.map(([id, source, answer]) => ({ id, source, answer, want, isKept, method }))
}
