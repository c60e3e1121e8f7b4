import { chunked, get, HELLO, head, post, request } from './message.ts'
import {
  answered,
  echoes,
  notSwitched,
  type Probe,
  probes,
  type Rule,
  refused,
  refusedOrServed,
  served,
  servedOrRefused,
  servedWith,
  unfinished,
} from './verdict.ts'

const KEY = 'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=='
const VERSION = 'Sec-WebSocket-Version: 13'
const UPGRADE = ['Connection: Upgrade', 'Upgrade: websocket', KEY]

/** What a server must do by RFC 9110, 9112 and 6455. */
export const compliance: readonly Probe[] = [
  ...probes('both', served, [
    ['a plain request', 'COMP-BASELINE', 'RFC 9112 2.1', get()],
    ['OPTIONS *', 'COMP-OPTIONS-STAR', 'RFC 9112 3.2.4', request('OPTIONS * HTTP/1.1')],
    ['POST with length 0', 'COMP-POST-CL-ZERO', 'RFC 9112 6.2', post('', 'Content-Length: 0')],
    ['POST without framing', 'COMP-POST-NO-CL-NO-TE', 'RFC 9112 6.3', post('')],
    ['an empty chunked body', 'COMP-CHUNKED-EMPTY', 'RFC 9112 7.1', chunked('0\r\n\r\n')],
  ]),
  ...probes('both', echoes('hello'), [
    ['POST with a length', 'COMP-POST-CL-BODY', 'RFC 9112 6.2', post('hello', HELLO)],
    ['one chunk', 'COMP-CHUNKED-BODY', 'RFC 9112 7.1', chunked('5\r\nhello\r\n0\r\n\r\n')],
    [
      'a chunk extension',
      'COMP-CHUNKED-EXTENSION',
      'RFC 9112 7.1.1',
      chunked('5;ext=value\r\nhello\r\n0\r\n\r\n'),
    ],
    [
      'a trailer field',
      'COMP-CHUNKED-TRAILER-VALID',
      'RFC 9112 7.1.2',
      chunked('5\r\nhello\r\n0\r\nX-Checksum: abc\r\n\r\n'),
    ],
  ]),
  ...probes('both', echoes('hello world'), [
    [
      'two chunks',
      'COMP-CHUNKED-MULTI',
      'RFC 9112 7.1',
      chunked('5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n'),
    ],
  ]),
  ...probes('both', echoes('helloworld'), [
    [
      'an upper-case chunk size',
      'COMP-CHUNKED-HEX-UPPERCASE',
      'RFC 9112 7.1',
      chunked('A\r\nhelloworld\r\n0\r\n\r\n'),
    ],
  ]),
  ...probes('both', answered(400), [
    ['a folded field', 'RFC9112-5.1-OBS-FOLD', 'RFC 9112 5.2', get('X-Test: value', ' continued')],
    [
      'a blank before the colon',
      'RFC9110-5.6.2-SP-BEFORE-COLON',
      'RFC 9112 5.1',
      get('X-Test : value'),
    ],
    ['no Host', 'RFC9112-7.1-MISSING-HOST', 'RFC 9112 3.2', head('GET $T HTTP/1.1', '$A')],
    [
      'CR alone as line end',
      'RFC9112-3-CR-ONLY-LINE-ENDING',
      'RFC 9112 2.2',
      'GET $T HTTP/1.1\r$H\r\n\r\n',
    ],
    [
      'two Hosts that differ',
      'RFC9110-5.4-DUPLICATE-HOST',
      'RFC 9112 3.2',
      get('Host: other.example'),
    ],
    [
      'two Hosts that agree',
      'COMP-DUPLICATE-HOST-SAME',
      'RFC 9112 3.2',
      get('Host: probe.example'),
    ],
  ]),
  ...probes('both', refused(), [
    ['a field without a name', 'RFC9112-5-EMPTY-HEADER-NAME', 'RFC 9112 5', get(': empty-name')],
    ['no target', 'RFC9112-3-MISSING-TARGET', 'RFC 9112 3', request('GET HTTP/1.1')],
    [
      'a bracket in a field name',
      'RFC9112-5-INVALID-HEADER-NAME',
      'RFC 9110 5.6.2',
      get('Bad[Name: value'),
    ],
    ['a field without a colon', 'RFC9112-5-HEADER-NO-COLON', 'RFC 9112 5', get('NoColonHere')],
    [
      'a length that is no number',
      'RFC9112-6.1-CL-NON-NUMERIC',
      'RFC 9112 6.3',
      post('', 'Content-Length: abc'),
    ],
    [
      'a length with a plus sign',
      'RFC9112-6.1-CL-PLUS-SIGN',
      'RFC 9112 6.3',
      post('hello', 'Content-Length: +5'),
    ],
    [
      'a blank line part before the fields',
      'COMP-WHITESPACE-BEFORE-HEADERS',
      'RFC 9112 2.2',
      head('GET $T HTTP/1.1', ' ', '$H'),
    ],
    [
      'user information in Host',
      'COMP-HOST-WITH-USERINFO',
      'RFC 9110 4.2.4',
      head('GET $T HTTP/1.1', 'Host: user@probe.example', '$A'),
    ],
    [
      'a path in Host',
      'COMP-HOST-WITH-PATH',
      'RFC 9110 7.2',
      head('GET $T HTTP/1.1', 'Host: probe.example/path', '$A'),
    ],
    [
      'an empty Host',
      'COMP-HOST-EMPTY-VALUE',
      'RFC 9110 4.2.1',
      head('GET $T HTTP/1.1', 'Host: ', '$A'),
    ],
    ['GET *', 'COMP-ASTERISK-WITH-GET', 'RFC 9112 3.2.4', request('GET * HTTP/1.1')],
    ['no minor version', 'COMP-VERSION-MISSING-MINOR', 'RFC 9112 2.3', request('GET $T HTTP/1')],
    [
      'zeros before the version',
      'COMP-VERSION-LEADING-ZEROS',
      'RFC 9112 2.3',
      request('GET $T HTTP/01.01'),
    ],
    [
      'a blank in the version',
      'COMP-VERSION-WHITESPACE',
      'RFC 9112 2.3',
      request('GET $T HTTP/ 1.1'),
    ],
  ]),
  ...probes('now', refused(), [
    ['a lower-case protocol name', 'COMP-VERSION-CASE', 'RFC 9112 2.3', request('GET $T http/1.1')],
    ['a blank in the target', 'COMP-SPACE-IN-TARGET', 'RFC 9112 3.2', request('GET $T b HTTP/1.1')],
  ]),
  ...probes('both', refusedOrServed(400), [
    [
      'LF alone after the request line',
      'RFC9112-2.2-BARE-LF-REQUEST-LINE',
      'RFC 9112 2.2',
      'GET $T HTTP/1.1\n$H\r\n\r\n',
    ],
    [
      'LF alone after a field',
      'RFC9112-2.2-BARE-LF-HEADER',
      'RFC 9112 2.2',
      'GET $T HTTP/1.1\r\n$H\nX-Test: value\r\n\r\n',
    ],
    [
      'two blanks in the request line',
      'RFC9112-3-MULTI-SP-REQUEST-LINE',
      'RFC 9112 3',
      request('GET  $T HTTP/1.1'),
    ],
    [
      'a fragment in the target',
      'RFC9112-3.2-FRAGMENT-IN-TARGET',
      'RFC 9112 3.2',
      request('GET $T#frag HTTP/1.1'),
    ],
    ['two empty lines first', 'COMP-LEADING-CRLF', 'RFC 9112 2.2', `\r\n\r\n${get()}`],
    [
      'a tab in the request line',
      'COMP-REQUEST-LINE-TAB',
      'RFC 9112 3',
      request('GET\t$T HTTP/1.1'),
    ],
  ]),
  ...probes('now', refusedOrServed(400), [
    [
      'two Content-Type fields',
      'COMP-DUPLICATE-CT',
      'RFC 9110 5.3',
      post('hello', HELLO, 'Content-Type: text/plain', 'Content-Type: text/html'),
    ],
  ]),
  ...probes('both', refused(400, 505), [
    ['HTTP/9.9', 'RFC9112-2.3-INVALID-VERSION', 'RFC 9112 2.3', request('GET $T HTTP/9.9')],
  ]),
  ...probes('both', refused(400, 501), [
    [
      'an unknown coding',
      'COMP-UNKNOWN-TE-501',
      'RFC 9112 6.1',
      post('', 'Transfer-Encoding: gzip'),
    ],
  ]),
  ...probes('both', refused(400, 405, 501), [
    [
      'CONNECT',
      'COMP-METHOD-CONNECT',
      'RFC 9110 9.3.6',
      head('CONNECT example.com:443 HTTP/1.1', 'Host: example.com:443', '$A'),
    ],
  ]),
  ...probes('both', refusedOrServed(400, 405, 501), [
    ['a lower-case method', 'COMP-METHOD-CASE', 'RFC 9110 9.1', request('get $T HTTP/1.1')],
  ]),
  ...probes('now', refusedOrServed(400, 405, 501), [
    ['an unknown method', 'COMP-UNKNOWN-METHOD', 'RFC 9110 9.1', request('FOOBAR $T HTTP/1.1')],
  ]),
  ...probes('both', unfinished, [
    ['HTTP/0.9', 'RFC9112-2.3-HTTP09-REQUEST', 'RFC 9112 2.3', 'GET $T\r\n'],
    [
      'less body than its length',
      'COMP-POST-CL-UNDERSEND',
      'RFC 9112 6.2',
      post('hello', 'Content-Length: 10'),
    ],
    ['no last chunk', 'COMP-CHUNKED-NO-FINAL', 'RFC 9112 7.1', chunked('5\r\nhello\r\n')],
  ]),
  ...probes('both', notSwitched, [
    [
      'a WebSocket by POST',
      'COMP-UPGRADE-POST',
      'RFC 6455 4.1',
      request('POST $T HTTP/1.1', ...UPGRADE, VERSION),
    ],
    [
      'Upgrade that Connection does not list',
      'COMP-UPGRADE-MISSING-CONN',
      'RFC 9110 7.8',
      get('Upgrade: websocket', KEY, VERSION),
    ],
    [
      'an unknown protocol in Upgrade',
      'COMP-UPGRADE-UNKNOWN',
      'RFC 9110 7.8',
      get('Connection: Upgrade', 'Upgrade: totally-made-up/1.0'),
    ],
  ]),
  ...probes('now', notSwitched, [
    [
      'a WebSocket by HTTP/1.0',
      'COMP-UPGRADE-HTTP10',
      'RFC 9110 7.8',
      request('GET $T HTTP/1.0', ...UPGRADE, VERSION),
    ],
  ]),
  // In February anything but 426 failed; now anything but 101 and 2xx passes. The older is kept.
  ...probes('both', refusedOrServed(426), [
    [
      'an unknown version of WebSocket',
      'COMP-UPGRADE-INVALID-VER',
      'RFC 6455 4.4',
      get(...UPGRADE, 'Sec-WebSocket-Version: 99'),
    ],
  ]),
  ...probes('both', refusedOrServed(417), [
    ['an unknown expectation', 'COMP-EXPECT-UNKNOWN', 'RFC 9110 10.1.1', get('Expect: 200-ok')],
  ]),
  ...probes('both', closes('fail'), [
    ['Connection: close', 'COMP-CONNECTION-CLOSE', 'RFC 9112 9.6', get('Connection: close')],
  ]),
  ...probes('both', closes('warn'), [
    ['HTTP/1.0', 'COMP-HTTP10-DEFAULT-CLOSE', 'RFC 9112 9.3', request('GET $T HTTP/1.0')],
  ]),
  // The newest state scores 2xx as a pass, and the test no more.
  ...probes('then', refusedOrServed(400), [
    [
      'absolute-form that agrees with Host',
      'COMP-ABSOLUTE-FORM',
      'RFC 9112 3.2.2',
      request('GET http://probe.example$T HTTP/1.1'),
    ],
  ]),
  ...probes(
    'now',
    servedWith('2xx without a body', ({ body }) => body === ''),
    [['HEAD', 'COMP-HEAD-NO-BODY', 'RFC 9110 9.3.2', request('HEAD $T HTTP/1.1')]],
  ),
  ...probes('now', { text: '405 with Allow', judge: allowed }, [
    [
      'a method that the app does not know',
      'COMP-405-ALLOW',
      'RFC 9110 15.5.6',
      request('DELETE $T HTTP/1.1'),
    ],
  ]),
  ...probes(
    'now',
    servedWith('2xx with Date', ({ fields }) => fields.has('date')),
    [['Date in an answer', 'COMP-DATE-HEADER', 'RFC 9110 6.6.1', get()]],
  ),
  ...probes(
    'now',
    servedWith('2xx with Content-Type', ({ fields }) => fields.has('content-type'), 'warn'),
    [['Content-Type in an answer', 'COMP-CONTENT-TYPE', 'RFC 9110 8.3', get()]],
  ),
  ...probes(
    'now',
    servedWith(
      '204 without a length',
      ({ status, fields }) => status === 204 && !fields.has('content-length'),
    ),
    [['a 204', 'COMP-NO-CL-IN-204', 'RFC 9110 8.6', request('OPTIONS $T HTTP/1.1')]],
  ),
  ...probes(
    'now',
    servedWith('2xx with Allow', ({ fields }) => fields.has('allow'), 'warn'),
    [['OPTIONS', 'COMP-OPTIONS-ALLOW', 'RFC 9110 9.3.7', request('OPTIONS $T HTTP/1.1')]],
  ),
  ...probes('now', { text: 'no 1xx', judge: ({ hasInterim }) => (hasInterim ? 'fail' : 'pass') }, [
    [
      'Expect in HTTP/1.0',
      'COMP-NO-1XX-HTTP10',
      'RFC 9110 15.2',
      `${request('POST $T HTTP/1.0', 'Expect: 100-continue', HELLO)}hello`,
    ],
  ]),
  ...probes(
    'now',
    servedWith('2xx, not 206', ({ status }) => status !== 206),
    [
      [
        'Range with POST',
        'COMP-RANGE-POST',
        'RFC 9110 14.2',
        post('hello', HELLO, 'Range: bytes=0-10'),
      ],
    ],
  ),
  ...probes(
    'now',
    {
      text: 'anything but 414',
      judge: ({ status }) => (status === null || status === 414 ? 'fail' : 'pass'),
    },
    [
      [
        'a target of 7,900 bytes',
        'COMP-LONG-URL-OK',
        'RFC 9112 3',
        request(`GET $T/${'a'.repeat(7900)} HTTP/1.1`),
      ],
    ],
  ),
  // Not scored by Http11Probe.
  ...probes('no', refused(405, 501), [
    ['TRACE', 'COMP-METHOD-TRACE', 'RFC 9110 9.3.8', request('TRACE $T HTTP/1.1')],
    [
      'TRACE with a credential',
      'COMP-TRACE-SENSITIVE',
      'RFC 9110 9.3.8',
      request('TRACE $T HTTP/1.1', 'Cookie: secret'),
    ],
  ]),
  ...probes('no', refused(400, 405, 501), [
    [
      'TRACE with a body',
      'COMP-TRACE-WITH-BODY',
      'RFC 9110 9.3.8',
      `${request('TRACE $T HTTP/1.1', HELLO)}hello`,
    ],
  ]),
  ...probes('no', refusedOrServed(400), [
    ['GET with a body', 'COMP-GET-WITH-CL-BODY', 'RFC 9110 9.3.1', `${get(HELLO)}hello`],
    ['HTTP/1.0 without Host', 'COMP-HTTP10-NO-HOST', 'RFC 9112 3.2', head('GET $T HTTP/1.0', '$A')],
  ]),
  ...probes('no', { text: 'close; 2xx or 505 warns', judge: higherMinor }, [
    ['HTTP/1.2', 'COMP-HTTP12-VERSION', 'RFC 9110 2.5', request('GET $T HTTP/1.2')],
  ]),
  ...probes('no', servedOrRefused(), [
    ['Range that is no range', 'COMP-RANGE-INVALID', 'RFC 9110 14.2', get('Range: bytes=abc-xyz')],
    [
      'a content type that nobody knows',
      'COMP-POST-UNSUPPORTED-CT',
      'RFC 9110 15.5.16',
      post('hello', HELLO, 'Content-Type: application/x-nonsense'),
    ],
  ]),
]

/** 2xx, and the connection ends with it. */
function closes(otherwise: 'warn' | 'fail'): Rule {
  const rule = servedWith('2xx, then close', ({ isClosed }) => isClosed, otherwise)
  return { ...rule, isCloseAwaited: true }
}

function allowed({
  status,
  fields,
}: {
  status: number | null
  fields: ReadonlyMap<string, string>
}) {
  if (status === null) return 'fail'
  if (status !== 405) return 'warn'
  return fields.has('allow') ? 'pass' : 'fail'
}

function higherMinor({ status, isClosed }: { status: number | null; isClosed: boolean }) {
  if (status === null) return isClosed ? 'pass' : 'fail'
  return status === 505 || (status >= 200 && status < 300) ? 'warn' : 'fail'
}
