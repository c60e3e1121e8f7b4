import { chunked, get, HELLO, head, post, request } from './message.ts'
import {
  answered,
  echoes,
  endsThere,
  type Probe,
  probes,
  type Row,
  type Rule,
  refused,
  refusedOrServed,
  served,
  servedWith,
  staysInStep,
  unfinished,
} from './verdict.ts'

const CHUNKED = 'Transfer-Encoding: chunked'
const END = '0\r\n\r\n'
const KEY = 'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=='
const VERSION = 'Sec-WebSocket-Version: 13'
const upgrade = (...fields: string[]) => get('Connection: Upgrade', 'Upgrade: websocket', ...fields)

/** The app saw each of ours once, whatever the client said about them. */
const oursOnce: Rule = servedWith('2xx, and the app saw our own fields once', ({ fields }) => {
  const seen = (fields.get('x-seen') ?? '').split(' ')
  const ours = ['x-tenant-context', 'x-tenant-request', 'x-request-id', 'traceparent', 'host']
  return (
    ours.every(name => seen.filter(other => other === name).length === 1) &&
    !seen.some(name => name.includes('_')) &&
    seen.filter(name => name.startsWith('x-tenant-')).length === 2
  )
})

/** The app was not told of `name`. */
const unseen = (name: string): Rule =>
  servedWith(`2xx, and the app saw no ${name}`, ({ fields }) => {
    return !(fields.get('x-seen') ?? '').split(' ').includes(name)
  })

/** One answer, and the connection ends with it, so that what follows is never read as a request. */
const oneAnswer = (...statuses: number[]): Rule => ({
  text: `${statuses.join('/')}, then close; never a second answer`,
  isCloseAwaited: true,
  judge: ({ status, answers, isClosed }) =>
    answers === 1 && isClosed && statuses.includes(status ?? 0) ? 'pass' : 'fail',
})

/** Read as one endless chunk, and framed anew behind us: the app sees a body that goes on. */
const ENDLESS = chunked(`FFFFFFFFFFFFFFFF\r\nhello\r\n${END}${get()}`)

/** One answer without `name`, and the connection ends with it. */
function endsWithout(name: string): Rule {
  return {
    text: `2xx without ${name}, then close; never a second answer`,
    judge: ({ status, fields, answers, isClosed }) =>
      answers === 1 && isClosed && status === 204 && !fields.has(name) ? 'pass' : 'fail',
  }
}

/** What Http11Probe does not ask: HARDENING section A, published attacks, upgrades. */
export const own: readonly Probe[] = [
  ...probes('no', refused(), hiddenFraming()),
  ...probes('no', refused(), chunkedFraming()),
  ...probes('no', refused(), requestLines()),
  ...probes('no', refused(), [
    ['two credentials', null, 'RFC 9110 11.6.2', get('authorization: Bearer other')],
    ['two tenant keys', null, 'DESIGN 4.1', get('X-Tenant-Key: a', 'x-tenant-key: b')],
    ['two Upgrade fields', null, 'RFC 9110 7.8', get('Upgrade: h2c', 'Upgrade: websocket')],
    ['a tab in Host', null, 'RFC 9110 7.2', head('GET $T HTTP/1.1', 'Host: a\tb', '$A')],
    ['a Host list', null, 'RFC 9110 7.2', head('GET $T HTTP/1.1', 'Host: a,b', '$A')],
    ['a port that is no number', null, 'RFC 9110 7.2', head('GET $T HTTP/1.1', 'Host: a:8o', '$A')],
    ['a folded Host', null, 'RFC 9112 5.2', head('GET $T HTTP/1.1', 'Host:\r\n a', '$A')],
    ['NUL in a name', null, 'RFC 9110 5.6.2', get('X-A\0: b')],
    ['DEL in a value', null, 'RFC 9110 5.5', get('X-A: b\x7f')],
    ['a colon in a name', null, 'RFC 9112 5', get('::')],
    ['a name of blanks', null, 'RFC 9112 5', get('  : b')],
  ]),
  ...probes('no', unfinished, [['a chunk size of 16 digits', null, 'RFC 9112 7.1', ENDLESS]]),
  ...probes('no', answered(431), [
    ['101 fields', null, 'CVE-2026-58044', get(...Array<string>(99).fill('a: b'))],
    [
      'a length behind 1,000 fields',
      null,
      'CVE-2026-58044',
      post('hello', ...Array<string>(1000).fill('a: b'), HELLO),
    ],
    ['a head of 17 KB', null, 'RFC 6585 5', get(`X-A: ${'b'.repeat(17_000)}`)],
  ]),
  ...probes('no', answered(505), [
    ['HTTP/2.0 in a request line', null, 'RFC 9110 15.6.6', request('GET $T HTTP/2.0')],
    ['HTTP/0.9 in a request line', null, 'RFC 9110 15.6.6', request('GET $T HTTP/0.9')],
    ['HTTP/3.0 in a request line', null, 'RFC 9110 15.6.6', request('GET $T HTTP/3.0')],
  ]),
  ...probes('no', answered(417), [
    [
      '100-continue beside another expectation',
      null,
      'RFC 9110 10.1.1',
      post('hello', HELLO, 'Expect: 100-continue, x'),
    ],
    [
      '100-continue in a second field',
      null,
      'RFC 9110 10.1.1',
      post('hello', HELLO, 'Expect: x', 'Expect: 100-continue'),
    ],
    [
      '100-continue with a prefix',
      null,
      'HTTP/1.1 must die (2025)',
      post('hello', HELLO, 'Expect: y 100-continue'),
    ],
    ['an empty expectation', null, 'RFC 9110 10.1.1', post('hello', HELLO, 'Expect:')],
  ]),
  ...probes('no', echoes('hello'), [
    [
      '100-Continue in another case',
      null,
      'RFC 9110 10.1.1',
      post('hello', HELLO, 'Expect: 100-Continue'),
    ],
    [
      'chunked in another case',
      null,
      'RFC 9112 7',
      post(`5\r\nhello\r\n${END}`, 'transfer-encoding: cHuNkEd'),
    ],
    ['zeros before a chunk size', null, 'RFC 9112 7.1', chunked(`0005\r\nhello\r\n${END}`)],
    ['a quoted extension', null, 'RFC 9112 7.1.1', chunked(`5;a="b c"\r\nhello\r\n${END}`)],
  ]),
  ...probes('no', refusedOrServed(400), [
    [
      'blanks around chunked',
      null,
      'RFC 9110 5.5',
      post(`5\r\nhello\r\n${END}`, 'Transfer-Encoding: \t chunked \t'),
    ],
  ]),
  ...probes('no', staysInStep, [
    [
      'a request behind a chunked OPTIONS',
      null,
      'TE.0 (2024)',
      `${request('OPTIONS $T HTTP/1.1', CHUNKED)}5\r\nhello\r\n${END}`,
      get(),
    ],
    [
      'a request behind a chunked GET',
      null,
      'TE.0 (2024)',
      `${get(CHUNKED)}5\r\nhello\r\n${END}`,
      get(),
    ],
    [
      'a request behind a chunked HEAD',
      null,
      'TE.0 (2024)',
      `${request('HEAD $T HTTP/1.1', CHUNKED)}5\r\nhello\r\n${END}`,
      get(),
    ],
    [
      'a request behind Expect without a body',
      null,
      'HTTP/1.1 must die (2025)',
      get('Expect: 100-continue'),
      get(),
    ],
    [
      'a request behind Expect with chunks',
      null,
      'HTTP/1.1 must die (2025)',
      chunked(`5\r\nhello\r\n${END}`, 'Expect: 100-continue'),
      get(),
    ],
    [
      'a request behind trailers',
      null,
      'RFC 9112 7.1.2',
      chunked('5\r\nhello\r\n0\r\nX-A: GET / HTTP/1.1\r\n\r\n'),
      get(),
    ],
  ]),
  ...probes('no', endsThere, [
    [
      'a request behind Content-Length in a trailer',
      null,
      'RFC 9110 6.5.1',
      chunked('5\r\nhello\r\n0\r\nContent-Length: 9\r\n\r\n'),
      get(),
    ],
    [
      'a request behind a folded trailer',
      null,
      'RFC 9112 5.2',
      chunked('5\r\nhello\r\n0\r\nX-A: b\r\n c\r\n\r\n'),
      get(),
    ],
    [
      'a request behind LF in an extension',
      null,
      'CVE-2025-55315',
      chunked(`2;\nxx\r\n40\r\n0\r\n\r\n${get()}`),
      get(),
    ],
    [
      'a request behind CR in an extension',
      null,
      'CVE-2025-55315',
      chunked(`2;a\rxx\r\n40\r\n0\r\n\r\n${get()}`),
      get(),
    ],
    [
      'a request behind a negative chunk',
      null,
      'RFC 9112 7.1',
      chunked(`-5\r\nhello\r\n${END}`),
      get(),
    ],
  ]),
  ...probes('no', oursOnce, [
    ['a context of the client', null, 'HARDENING A.3', get('x-tenant-context: forged')],
    [
      'a context in other spellings',
      null,
      'HARDENING A.3',
      get('X-Tenant_Context: a', 'X_TENANT_REQUEST: b'),
    ],
    ['a context twice', null, 'HARDENING A.3', get('X-Tenant-Request: a', 'x-tenant-request: b')],
    [
      'Connection lists the context',
      null,
      'RFC 9110 7.6.1',
      get('Connection: x-tenant-context, close'),
    ],
    [
      'Connection lists all of ours',
      null,
      'RFC 9110 7.6.1',
      get('Connection: x-tenant-request, x-request-id, traceparent, host'),
    ],
    [
      'Content_Type beside the true one',
      null,
      'RFC 3875 4.1.18',
      post('hello', HELLO, 'Content-Type: text/plain', 'Content_Type: text/html'),
    ],
    [
      'a context as trailer',
      null,
      'RFC 9110 6.5.1',
      chunked('5\r\nhello\r\n0\r\nX-Tenant-Context: forged\r\n\r\n'),
    ],
    [
      'absolute-form by another scheme and case',
      null,
      'RFC 9112 3.2.2',
      request('GET HTTPS://PROBE.example$T HTTP/1.1'),
    ],
  ]),
  ...probes('no', unseen('x-secret'), [
    [
      'a field that Connection lists',
      null,
      'RFC 9110 7.6.1',
      get('Connection: X-Secret', 'x-secret: a'),
    ],
  ]),
  ...probes('no', unseen('te'), [
    [
      'TE, Keep-Alive, Proxy-Connection',
      null,
      'RFC 9110 7.6.1',
      get('TE: trailers', 'Keep-Alive: max=9', 'Proxy-Connection: close'),
    ],
  ]),
  ...probes('no', unseen('upgrade'), [
    [
      'h2c without Connection',
      null,
      'RFC 9113 3.1',
      get('Upgrade: h2c', 'HTTP2-Settings: AAMAAABk'),
    ],
  ]),
  ...probes('no', served, [
    ['one empty line first', null, 'RFC 9112 2.2', `\r\n${get()}`],
    ['Latin-1 in a value', null, 'RFC 9110 5.5', get('X-A: \xe4')],
  ]),
  ...probes('no', oneAnswer(400), [
    [
      'h2c',
      null,
      'RFC 9113 3.1',
      get('Connection: Upgrade, HTTP2-Settings', 'Upgrade: h2c', 'HTTP2-Settings: AAMAAABk') +
        get(),
    ],
    [
      'a list in Upgrade',
      null,
      'RFC 9110 7.8',
      get('Connection: Upgrade', 'Upgrade: websocket, h2c', KEY, VERSION) + get(),
    ],
    [
      'an upgrade with a length',
      null,
      'RFC 9110 7.8',
      `${upgrade(KEY, VERSION, HELLO)}hello${get()}`,
    ],
    ['an upgrade with chunks', null, 'RFC 9110 7.8', upgrade(KEY, VERSION, CHUNKED) + END + get()],
    [
      'an upgrade by POST with a request behind',
      null,
      'RFC 6455 4.1',
      request('POST $T HTTP/1.1', 'Connection: Upgrade', 'Upgrade: websocket', KEY, VERSION) +
        get(),
    ],
    ['no Sec-WebSocket-Key', null, 'RFC 6455 4.2.1', upgrade(VERSION) + get()],
    [
      'a Sec-WebSocket-Key of 15 bytes',
      null,
      'RFC 6455 4.2.1',
      upgrade('Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAA', VERSION) + get(),
    ],
    [
      'a Sec-WebSocket-Key that is no base64',
      null,
      'RFC 6455 4.2.1',
      upgrade('Sec-WebSocket-Key: ______________________==', VERSION) + get(),
    ],
    ['two Sec-WebSocket-Keys', null, 'RFC 6455 11.3.1', upgrade(KEY, KEY, VERSION) + get()],
  ]),
  ...probes('no', { ...endsWithout('content-length'), isCloseAwaited: true }, [
    [
      'OPTIONS * with an upgrade',
      null,
      'RFC 9110 8.6',
      request('OPTIONS * HTTP/1.1', 'Connection: Upgrade', 'Upgrade: h2c') + get(),
    ],
  ]),
  ...probes('no', oneAnswer(426), [
    ['no Sec-WebSocket-Version', null, 'RFC 6455 4.2.1', upgrade(KEY) + get()],
    ['two Sec-WebSocket-Versions', null, 'RFC 6455 11.3.5', upgrade(KEY, VERSION, VERSION) + get()],
    ['WebSocket version 8', null, 'RFC 6455 4.4', upgrade(KEY, 'Sec-WebSocket-Version: 8') + get()],
  ]),
  ...probes('no', oneAnswer(200), [
    [
      'a request behind a handshake that the app refuses',
      null,
      'RFC 9110 7.8',
      upgrade(KEY, VERSION) + get(),
    ],
  ]),
  ...probes('no', oneAnswer(401), [
    [
      'a request behind a handshake without a credential',
      null,
      'HARDENING A.5',
      head(
        'GET $T HTTP/1.1',
        'Host: a',
        'Connection: Upgrade',
        'Upgrade: websocket',
        KEY,
        VERSION,
      ) + get(),
    ],
  ]),
]

/** 0.CL: a length that only one of two peers sees. */
function hiddenFraming(): Row[] {
  const lines: [string, string][] = [
    ['a blank before Content-Length', ' Content-Length: 5'],
    ['a tab before Content-Length', 'X-A: b\r\n\tContent-Length: 5'],
    ['a folded Content-Length', 'Content-Length:\r\n 5'],
    ['Content-Length without its colon', 'Content-Length 5'],
    ['a NUL in Content-Length', 'Content-Length\0: 5'],
    ['a hard blank after Content-Length', 'Content-Length\xa0: 5'],
    ['Content-Length behind LF', 'X-A: b\nContent-Length: 5'],
    ['Content-Length behind CR', 'X-A: b\rContent-Length: 5'],
    ['a quoted Content-Length', 'Content-Length: "5"'],
    ['a length with a fraction', 'Content-Length: 5.0'],
    ['a length by exponent', 'Content-Length: 5e0'],
    ['a length in other digits', 'Content-Length: \xb2'],
    ['a length of 16 digits', 'Content-Length: 9007199254740993'],
    ['Transfer-Encoding behind LF', 'X-A: b\nTransfer-Encoding: chunked'],
    ['Transfer-Encoding behind a blank', ' Transfer-Encoding: chunked'],
    ['Transfer-Encoding with a tab before its colon', 'Transfer-Encoding\t: chunked'],
    ['chunked twice', `${CHUNKED}\r\n${CHUNKED}`],
    ['quoted chunked', 'Transfer-Encoding: "chunked"'],
    ['cow, chunked', 'Transfer-Encoding: cow, chunked'],
    ['chunked with a vertical tab behind', 'Transfer-Encoding: chunked\x0b'],
    ['chunked folded', 'Transfer-Encoding: chunked\r\n , cow'],
    ['chunked and a hard blank', 'Transfer-Encoding: chunked\xa0'],
  ]
  return lines.map(([id, line]) => [id, null, 'RFC 9112 6.3', post(`${END}${get()}`, line)])
}

function chunkedFraming(): Row[] {
  const bodies: [string, string][] = [
    ['LF after a chunk size', `5\nhello\r\n${END}`],
    ['LF before a chunk size', `\n5\r\nhello\r\n${END}`],
    ['CR LF before a chunk size', `\r\n5\r\nhello\r\n${END}`],
    ['a line end within a quoted extension', `5;a="\r\nhello\r\n${END}"`],
    ['a chunk size that wraps at 64 bits', `10000000000000005\r\nhello\r\n${END}`],
    ['a chunk size with a letter behind', `5g\r\nhello\r\n${END}`],
    ['a chunk size with a fraction', `5.0\r\nhello\r\n${END}`],
    ['a chunk size of blanks', `   \r\nhello\r\n${END}`],
    ['a tab after a chunk size', `5\t\r\nhello\r\n${END}`],
    ['a NUL after a chunk', `5\r\nhello\0${END}`],
    ['CR without LF at the end', `5\r\nhello\r\n0\r\n\rX`],
    ['a trailer without a colon', `5\r\nhello\r\n0\r\nabc\r\n\r\n`],
    ['a trailer with a blank before the colon', `5\r\nhello\r\n0\r\nX-A : b\r\n\r\n`],
    ['a trailer with NUL', `5\r\nhello\r\n0\r\nX-A: \0\r\n\r\n`],
    ['trailers of 20 KB', `5\r\nhello\r\n0\r\nX-A: ${'b'.repeat(20_000)}\r\n\r\n`],
  ]
  return bodies.map(([id, body]) => [id, null, 'RFC 9112 7.1', chunked(body + get())])
}

function requestLines(): Row[] {
  const lines: [string, string, string][] = [
    ['a tab before the version', 'RFC 9112 3', 'GET $T\tHTTP/1.1'],
    ['a blank after the version', 'RFC 9112 3', 'GET $T HTTP/1.1 '],
    ['a third part of the version', 'RFC 9112 2.3', 'GET $T HTTP/1.1.1'],
    ['two digits of minor version', 'RFC 9112 2.3', 'GET $T HTTP/1.10'],
    ['a plus sign in the version', 'RFC 9112 2.3', 'GET $T HTTP/+1.1'],
    ['RTSP', 'RFC 9112 2.3', 'GET $T RTSP/1.0'],
    ['a NUL in the method', 'RFC 9110 9.1', 'G\0ET $T HTTP/1.1'],
    ['two requests in one line', 'RFC 9112 3', 'GET $T HTTP/1.1 GET $T HTTP/1.1'],
    ['dot segments', 'RFC 3986 5.2.4', 'GET $T/../x HTTP/1.1'],
    ['encoded dot segments', 'RFC 3986 6.2.2.3', 'GET $T/%2e%2E/x HTTP/1.1'],
    ['an encoded slash', 'RFC 3986 2.2', 'GET $T%2fx HTTP/1.1'],
    ['an encoded backslash', 'RFC 3986 2.2', 'GET $T%5cx HTTP/1.1'],
    ['a slash encoded twice', 'RFC 3986 2.4', 'GET $T%252fx HTTP/1.1'],
    ['an encoded letter', 'RFC 3986 6.2.2.2', 'GET $T/%61 HTTP/1.1'],
    ['half an encoding', 'RFC 3986 2.1', 'GET $T/%6 HTTP/1.1'],
    ['two slashes', 'RFC 3986 3.3', 'GET /$T HTTP/1.1'],
    ['a semicolon', 'RFC 3986 3.3', 'GET $T;x HTTP/1.1'],
    ['a blank encoded as a control', 'RFC 3986 2.1', 'GET $T%09x HTTP/1.1'],
    ['no slash', 'RFC 9112 3.2.1', 'GET api/probe HTTP/1.1'],
    [
      'absolute-form with user information',
      'RFC 9110 4.2.4',
      'GET http://u@probe.example$T HTTP/1.1',
    ],
    ['absolute-form with another port', 'RFC 9112 3.2.2', 'GET http://probe.example:81$T HTTP/1.1'],
    ['absolute-form without a host', 'RFC 9110 4.2.1', 'GET http://$T HTTP/1.1'],
    ['absolute-form of another scheme', 'RFC 9112 3.2.2', 'GET file://probe.example$T HTTP/1.1'],
    ['authority-form', 'RFC 9112 3.2.3', 'GET probe.example:80 HTTP/1.1'],
    ['UTF-8 in the query', 'RFC 3986 3.4', 'GET $T?\xc3\xa9 HTTP/1.1'],
    ['a fragment in the query', 'RFC 9112 3.2', 'GET $T?a#b HTTP/1.1'],
  ]
  return lines.map(([id, source, line]) => [id, null, source, request(line)])
}
