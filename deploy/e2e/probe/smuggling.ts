import { chunked, get, HELLO, post, request } from './message.ts'
import {
  endsThere,
  type Probe,
  probes,
  type Row,
  refused,
  refusedOrServed,
  servedWith,
  staysInStep,
} from './verdict.ts'

const CHUNKED = 'Transfer-Encoding: chunked'
const FOLDED = 'Transfer-Encoding:\r\n chunked'
const INNER = get()
const END_AND_INNER = `0\r\n\r\n${INNER}`

/** A whole chunk of five, and what stands in place of its size line, data and end. */
const sized = (size: string) => chunked(`${size}\r\nhello\r\n0\r\n\r\n`)
const coded = (coding: string) => post('hello', `Transfer-Encoding: ${coding}`, HELLO)
const trailed = (field: string) => chunked(`5\r\nhello\r\n0\r\n${field}\r\n\r\n`)
const inner = (...fields: string[]) => post(END_AND_INNER, ...fields)

/** Where two readers could see two different ends of a message. */
export const smuggling: readonly Probe[] = [
  ...probes('both', refused(), lengths()),
  ...probes('both', refused(), chunks()),
  ...probes('now', refused(), [
    [
      'an extension that is no token',
      'SMUG-CHUNK-EXT-INVALID-TOKEN',
      'RFC 9112 7.1.1',
      sized('5;bad[=x'),
    ],
    ['a chunk size with a plus sign', 'SMUG-CHUNK-SIZE-PLUS', 'RFC 9112 7.1', sized('+5')],
    ['a blank after the chunk size', 'SMUG-CHUNK-SIZE-TRAILING-OWS', 'RFC 9112 7.1', sized('5 ')],
  ]),
  ...probes('both', refused(), [
    [
      'coding with a blank before the colon',
      'SMUG-TE-SP-BEFORE-COLON',
      'RFC 9112 5.1',
      post('hello', 'Transfer-Encoding : chunked', HELLO),
    ],
    [
      'chunked that is not last',
      'SMUG-TE-NOT-FINAL-CHUNKED',
      'RFC 9112 6.3',
      post('0\r\n\r\n', 'Transfer-Encoding: chunked, gzip'),
    ],
    [
      'coding in HTTP/1.0',
      'SMUG-TE-HTTP10',
      'RFC 9112 6.1',
      `${request('POST $T HTTP/1.0', CHUNKED, HELLO)}hello`,
    ],
    ['an empty coding', 'SMUG-TE-EMPTY-VALUE', 'RFC 9112 6.1', coded('')],
    [
      'two codings in two fields',
      'SMUG-TE-DUPLICATE-HEADERS',
      'RFC 9112 6.1',
      post('hello', CHUNKED, 'Transfer-Encoding: identity', HELLO),
    ],
    ['a vertical tab before chunked', 'SMUG-TE-VTAB', 'RFC 9110 5.5', coded('\x0bchunked')],
    ['a form feed before chunked', 'SMUG-TE-FORMFEED', 'RFC 9110 5.5', coded('\x0cchunked')],
    ['a NUL after chunked', 'SMUG-TE-NULL', 'RFC 9110 5.5', coded('chunked\0')],
    [
      'CR alone in a field',
      'SMUG-BARE-CR-HEADER-VALUE',
      'RFC 9112 2.2',
      post('hello', HELLO, 'X-Test: val\rue'),
    ],
    [
      'a list in Host',
      'SMUG-MULTIPLE-HOST-COMMA',
      'RFC 9110 7.2',
      `GET $T HTTP/1.1\r\nHost: probe.example, other.example\r\n$A\r\n\r\n`,
    ],
  ]),
  ...probes('both', refused(400, 501), [
    ['xchunked', 'SMUG-TE-XCHUNKED', 'RFC 9112 6.1', coded('xchunked')],
    ['identity', 'SMUG-TE-IDENTITY', 'RFC 9112 7', coded('identity')],
    [
      'a blank after chunked, and a length',
      'SMUG-TE-TRAILING-SPACE',
      'RFC 9112 6.1',
      coded('chunked '),
    ],
  ]),
  ...probes('both', refusedOrServed(400), [
    [
      'length beside chunked',
      'SMUG-CL-TE-BOTH',
      'RFC 9112 6.1',
      post('D\r\nhello-bananas\r\n0\r\n\r\n', 'Content-Length: 23', CHUNKED),
    ],
    [
      'a short length beside chunked',
      'SMUG-CLTE-PIPELINE',
      'RFC 9112 6.1',
      post('0\r\n\r\n', 'Content-Length: 4', CHUNKED),
    ],
    [
      'a long length beside chunked',
      'SMUG-TECL-PIPELINE',
      'RFC 9112 6.1',
      post('0\r\n\r\n', CHUNKED, 'Content-Length: 30'),
    ],
    [
      'a length with zeros in front',
      'SMUG-CL-LEADING-ZEROS',
      'RFC 9110 8.6',
      post('hello', 'Content-Length: 005'),
    ],
    [
      'a length that could be octal',
      'SMUG-CL-LEADING-ZEROS-OCTAL',
      'RFC 9110 8.6',
      post('A'.repeat(200), 'Content-Length: 0200'),
    ],
    [
      'a length of two zeros',
      'SMUG-CL-DOUBLE-ZERO',
      'RFC 9110 8.6',
      post('', 'Content-Length: 00'),
    ],
    [
      'a blank after the length',
      'SMUG-CL-TRAILING-SPACE',
      'RFC 9110 5.5',
      post('hello', 'Content-Length: 5 '),
    ],
    [
      'two blanks before the length',
      'SMUG-CL-EXTRA-LEADING-SP',
      'RFC 9110 5.5',
      post('hello', 'Content-Length:  5'),
    ],
    [
      'chunked twice in one field',
      'SMUG-TE-DOUBLE-CHUNKED',
      'RFC 9112 6.1',
      coded('chunked, chunked'),
    ],
    ['Chunked beside a length', 'SMUG-TE-CASE-MISMATCH', 'RFC 9112 6.1', coded('Chunked')],
    ['a comma before chunked', 'SMUG-TE-LEADING-COMMA', 'RFC 9110 5.6.1', coded(', chunked')],
    ['a comma after chunked', 'SMUG-TE-TRAILING-COMMA', 'RFC 9110 5.6.1', coded('chunked,')],
    [
      'LF alone in an extension',
      'SMUG-CHUNK-EXT-LF',
      'CVE-2025-55315',
      chunked('5;\nhello\r\n0\r\n\r\n'),
    ],
    [
      'LF alone after a chunk',
      'SMUG-CHUNK-LF-TERM',
      'RFC 9112 7.1',
      chunked('5\r\nhello\n0\r\n\r\n'),
    ],
    [
      'LF alone at the end of the trailers',
      'SMUG-CHUNK-LF-TRAILER',
      'RFC 9112 7.1.2',
      chunked('5\r\nhello\r\n0\r\n\n'),
    ],
    ['a folded coding', 'SMUG-TE-OBS-FOLD', 'RFC 9112 5.2', post('hello', FOLDED, HELLO)],
  ]),
  ...probes('then', refusedOrServed(400), [
    ['parameters of chunked', 'SMUG-CHUNKED-WITH-PARAMS', 'RFC 9112 7', coded('chunked;ext=val')],
  ]),
  ...probes('now', endsThere, sequences()),
  // Not scored by Http11Probe.
  ...probes('no', refusedOrServed(400), [
    [
      'Transfer_Encoding',
      'SMUG-TRANSFER_ENCODING',
      'RFC 9110 5.1',
      post('hello', 'Transfer_Encoding: chunked', HELLO),
    ],
    [
      'a list of two equal lengths',
      'SMUG-CL-COMMA-SAME',
      'RFC 9110 8.6',
      post('hello', 'Content-Length: 5, 5'),
    ],
    [
      'a list of three equal lengths',
      'SMUG-CL-COMMA-TRIPLE',
      'RFC 9110 8.6',
      post('hello', 'Content-Length: 5, 5, 5'),
    ],
    [
      'Expect with its body at once',
      'SMUG-EXPECT-100-CL',
      'RFC 9110 10.1.1',
      post('hello', HELLO, 'Expect: 100-continue'),
    ],
    ['a length as trailer', 'SMUG-TRAILER-CL', 'RFC 9110 6.5.1', trailed('Content-Length: 50')],
    ['a coding as trailer', 'SMUG-TRAILER-TE', 'RFC 9110 6.5.1', trailed(CHUNKED)],
    ['Host as trailer', 'SMUG-TRAILER-HOST', 'RFC 9110 6.5.1', trailed('Host: evil.example')],
    [
      'a credential as trailer',
      'SMUG-TRAILER-AUTH',
      'RFC 9110 6.5.1',
      trailed('Authorization: Bearer evil'),
    ],
    [
      'a content type as trailer',
      'SMUG-TRAILER-CONTENT-TYPE',
      'RFC 9110 6.5.1',
      trailed('Content-Type: text/evil'),
    ],
    [
      'HEAD with a body',
      'SMUG-HEAD-CL-BODY',
      'RFC 9110 9.3.2',
      `${request('HEAD $T HTTP/1.1', HELLO)}hello`,
    ],
    [
      'OPTIONS with a body',
      'SMUG-OPTIONS-CL-BODY',
      'RFC 9110 9.3.7',
      `${request('OPTIONS $T HTTP/1.1', HELLO)}hello`,
    ],
    [
      'a tab before chunked, and a length',
      'SMUG-TE-TAB-BEFORE-VALUE',
      'RFC 9110 5.5',
      post('hello', 'Transfer-Encoding:\tchunked', HELLO),
    ],
    [
      'absolute-form that differs from Host',
      'SMUG-ABSOLUTE-URI-HOST-MISMATCH',
      'RFC 9112 3.2.2',
      request('GET http://other.example$T HTTP/1.1'),
    ],
  ]),
  ...probes('no', staysInStep, [
    [
      'half a request in the body of a GET',
      'SMUG-GET-CL-PREFIX-DESYNC',
      'RFC 9110 9.3.1',
      `${get('Content-Length: $L')}GET $T HTTP/1.1\r\n$H\r\n`,
      `\r\n${INNER}`,
    ],
    [
      'a request behind a GET with a body',
      'SMUG-GET-CL-BODY-DESYNC',
      'RFC 9110 9.3.1',
      `${get(HELLO)}hello`,
      INNER,
    ],
    [
      'a request behind OPTIONS with a body',
      'SMUG-OPTIONS-CL-BODY-DESYNC',
      'RFC 9110 9.3.7',
      `${request('OPTIONS $T HTTP/1.1', HELLO)}hello`,
      INNER,
    ],
    [
      'a request behind Expect and its body',
      'SMUG-EXPECT-100-CL-DESYNC',
      'RFC 9110 10.1.1',
      post('hello', HELLO, 'Expect: 100-continue'),
      INNER,
    ],
  ]),
  ...probes('no', { ...staysInStep, isCloseAwaited: true }, [
    [
      'a byte behind an empty body',
      'SMUG-CL0-BODY-POISON',
      'RFC 9112 6.2',
      post('X', 'Content-Length: 0'),
      INNER,
    ],
  ]),
  ...probes(
    'no',
    servedWith('2xx twice', ({ second }) => second?.status === 200, 'warn'),
    [['two requests in a row', 'SMUG-PIPELINE-SAFE', 'RFC 9112 9.3', get(), INNER]],
  ),
]

function lengths(): Row[] {
  const wrong: [string, string, string, string?][] = [
    ['a list of two lengths', 'SMUG-CL-COMMA-DIFFERENT', '5, 10'],
    ['a negative length', 'SMUG-CL-NEGATIVE', '-1', ''],
    ['a length by octal prefix', 'SMUG-CL-OCTAL', '0o5'],
    ['a length by hex prefix', 'SMUG-CL-HEX-PREFIX', '0x5'],
    ['a length with a blank inside', 'SMUG-CL-INTERNAL-SPACE', '1 0', 'hello12345'],
    ['a length with an underscore', 'SMUG-CL-UNDERSCORE', '1_0', 'helloworld'],
    ['a length of minus zero', 'SMUG-CL-NEGATIVE-ZERO', '-0', ''],
  ]
  return [
    [
      'two lengths that differ',
      'SMUG-DUPLICATE-CL',
      'RFC 9110 8.6',
      post('helloworld', HELLO, 'Content-Length: 10'),
    ],
    ...wrong.map(
      ([id, peer, value, body = 'hello']): Row => [
        id,
        peer,
        'RFC 9110 8.6',
        post(body, `Content-Length: ${value}`),
      ],
    ),
  ]
}

function chunks(): Row[] {
  return [
    [
      'a semicolon without an extension',
      'SMUG-CHUNK-BARE-SEMICOLON',
      'RFC 9112 7.1.1',
      sized('5;'),
    ],
    [
      'a chunk size with an underscore',
      'SMUG-CHUNK-UNDERSCORE',
      'RFC 9112 7.1',
      chunked('1_0\r\nhello world!!!!!\r\n0\r\n\r\n'),
    ],
    ['a chunk size by hex prefix', 'SMUG-CHUNK-HEX-PREFIX', 'RFC 9112 7.1', sized('0x5')],
    ['a blank before the chunk size', 'SMUG-CHUNK-LEADING-SP', 'RFC 9112 7.1', sized(' 5')],
    [
      'no line end after a chunk',
      'SMUG-CHUNK-MISSING-TRAILING-CRLF',
      'RFC 9112 7.1',
      chunked('5\r\nhello0\r\n\r\n'),
    ],
    [
      'more data than the chunk size',
      'SMUG-CHUNK-SPILL',
      'RFC 9112 7.1',
      chunked('5\r\nhello!!\r\n0\r\n\r\n'),
    ],
    ['a NUL in an extension', 'SMUG-CHUNK-EXT-CTRL', 'RFC 9112 7.1.1', sized('5;\0ext')],
    ['CR alone in an extension', 'SMUG-CHUNK-EXT-CR', 'CVE-2025-55315', sized('5;a\rX')],
    ['a negative chunk size', 'SMUG-CHUNK-NEGATIVE', 'RFC 9112 7.1', sized('-1')],
    [
      'CR alone after the chunk size',
      'SMUG-CHUNK-BARE-CR-TERM',
      'RFC 9112 2.2',
      chunked('5\rhello\r\n0\r\n\r\n'),
    ],
  ]
}

/** Probes that carry a request within a request, or send another one behind it. */
function sequences(): Row[] {
  return [
    [
      'behind length and chunked',
      'SMUG-CLTE-CONN-CLOSE',
      'RFC 9112 6.1',
      post('0\r\n\r\n', HELLO, CHUNKED),
      INNER,
    ],
    [
      'behind chunked and length',
      'SMUG-TECL-CONN-CLOSE',
      'RFC 9112 6.1',
      post('0\r\n\r\n', CHUNKED, HELLO),
      INNER,
    ],
    [
      'a byte left over by length and chunked',
      'SMUG-CLTE-DESYNC',
      'RFC 9112 6.1',
      post('0\r\n\r\nX', 'Content-Length: 6', CHUNKED),
      INNER,
    ],
    [
      'a byte left over by chunked and length',
      'SMUG-TECL-DESYNC',
      'RFC 9112 6.1',
      post('0\r\n\r\nX', CHUNKED, 'Content-Length: 30'),
      INNER,
    ],
    [
      'a GET within, length and chunked',
      'SMUG-CLTE-SMUGGLED-GET',
      'RFC 9112 6.1',
      inner(`Content-Length: $L`, CHUNKED),
    ],
    [
      'a GET within, +length',
      'SMUG-CLTE-SMUGGLED-GET-CL-PLUS',
      'RFC 9112 6.3',
      inner(`Content-Length: +$L`, CHUNKED),
    ],
    [
      'a GET within, length that is no number',
      'SMUG-CLTE-SMUGGLED-GET-CL-NON-NUMERIC',
      'RFC 9112 6.3',
      inner(`Content-Length: $Lx`, CHUNKED),
    ],
    [
      'a GET within, folded coding',
      'SMUG-CLTE-SMUGGLED-GET-TE-OBS-FOLD',
      'RFC 9112 5.2',
      inner(FOLDED, `Content-Length: $L`),
    ],
    [
      'a HEAD within',
      'SMUG-CLTE-SMUGGLED-HEAD',
      'RFC 9112 6.1',
      post(`0\r\n\r\n${request('HEAD $T HTTP/1.1')}`, `Content-Length: $L`, CHUNKED),
    ],
    [
      'a GET within, a blank after chunked',
      'SMUG-CLTE-SMUGGLED-GET-TE-TRAILING-SPACE',
      'RFC 9112 6.1',
      inner(`Content-Length: $L`, 'Transfer-Encoding: chunked '),
    ],
    [
      'a GET within, a comma before chunked',
      'SMUG-CLTE-SMUGGLED-GET-TE-LEADING-COMMA',
      'RFC 9112 6.1',
      inner(`Content-Length: $L`, 'Transfer-Encoding: , chunked'),
    ],
    [
      'a GET within, Chunked',
      'SMUG-CLTE-SMUGGLED-GET-TE-CASE-MISMATCH',
      'RFC 9112 6.1',
      inner(`Content-Length: $L`, 'Transfer-Encoding: Chunked'),
    ],
    [
      'a GET within, two codings',
      'SMUG-TE-DUPLICATE-HEADERS-SMUGGLED-GET',
      'RFC 9112 6.1',
      inner(CHUNKED, 'Transfer-Encoding: identity', `Content-Length: $L`),
    ],
    [
      'a GET within a chunk',
      'SMUG-TECL-SMUGGLED-GET',
      'RFC 9112 6.1',
      post(`$X\r\n${INNER}\r\n0\r\n\r\n`, CHUNKED, 'Content-Length: 4'),
    ],
    [
      'a GET within, two lengths',
      'SMUG-DUPLICATE-CL-SMUGGLED-GET',
      'RFC 9110 8.6',
      post(`PING${INNER}`, 'Content-Length: 4', `Content-Length: $L`),
    ],
    [
      'behind OPTIONS with a folded coding',
      'SMUG-OPTIONS-TE-OBS-FOLD',
      'RFC 9112 5.2',
      `${request('OPTIONS $T HTTP/1.1', FOLDED, HELLO)}hello`,
      INNER,
    ],
    [
      'behind a chunk size +0',
      'SMUG-CHUNK-INVALID-SIZE-DESYNC',
      'RFC 9112 7.1',
      chunked('+0\r\n\r\nX'),
      INNER,
    ],
  ]
}
