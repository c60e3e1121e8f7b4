import { chunked, get, HELLO, post, request } from './message.ts'
import {
  type Probe,
  probes,
  type Rule,
  refused,
  refusedOrServed,
  servedOrRefused,
  unfinished,
} from './verdict.ts'

const LONG = 100_000

/** The app is told of a field that could be taken for another one: dropped or refused passes. */
const notPassedOn = (name: string): Rule => ({
  text: 'refused or dropped; passed on as it came warns',
  judge: ({ status, isClosed, fields }) => {
    if (status === 400 || (status === null && isClosed)) return 'pass'
    if (status === null || status >= 300) return 'fail'
    return (fields.get('x-seen') ?? '').split(' ').includes(name) ? 'warn' : 'pass'
  },
})

/** Bytes that are no message, or too much of one. */
export const malformed: readonly Probe[] = [
  ...probes('both', unfinished, [
    ['256 bytes of noise', 'MAL-BINARY-GARBAGE', 'RFC 9112 3', noise()],
    [
      'a head without its end',
      'MAL-INCOMPLETE-REQUEST',
      'RFC 9112 2.1',
      'GET $T HTTP/1.1\r\n$H\r\nX: a',
    ],
    ['no byte at all', 'MAL-EMPTY-REQUEST', 'RFC 9112 9.5', ''],
    ['a line of blanks', 'MAL-WHITESPACE-ONLY-LINE', 'RFC 9112 2.2', '   \r\n\r\n'],
    [
      'a large length and no body',
      'MAL-POST-CL-HUGE-NO-BODY',
      'RFC 9112 6.2',
      post('', 'Content-Length: 999999999'),
    ],
  ]),
  ...probes('both', { ...unfinished, text: '400, 505, close or silence', judge: preface }, [
    ['an HTTP/2 preface', 'MAL-H2-PREFACE', 'RFC 9113 3.4', 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'],
  ]),
  ...probes('both', refused(400, 414, 431), [
    [
      'a target of 100 KB',
      'MAL-LONG-URL',
      'RFC 9112 3',
      request(`GET /${'A'.repeat(LONG)} HTTP/1.1`),
    ],
  ]),
  ...probes('both', refused(400, 431), [
    [
      'a value of 100 KB',
      'MAL-LONG-HEADER-VALUE',
      'RFC 9110 5.4',
      get(`X-Big: ${'B'.repeat(LONG)}`),
    ],
    ['a name of 100 KB', 'MAL-LONG-HEADER-NAME', 'RFC 9110 5.4', get(`${'A'.repeat(LONG)}: val`)],
    ['10,000 fields', 'MAL-MANY-HEADERS', 'CVE-2026-58044', get(...many(10_000))],
  ]),
  ...probes('both', refused(), [
    [
      'a method of 100 KB',
      'MAL-LONG-METHOD',
      'RFC 9112 3',
      request(`${'A'.repeat(LONG)} $T HTTP/1.1`),
    ],
    ['a NUL in the target', 'MAL-NUL-IN-URL', 'RFC 9112 3.2', request('GET $T\0test HTTP/1.1')],
    [
      'controls in a value',
      'MAL-CONTROL-CHARS-HEADER',
      'RFC 9110 5.5',
      get('X-Test: abc\x07\x08\x0bdef'),
    ],
    ['a NUL in a value', 'MAL-NUL-IN-HEADER-VALUE', 'RFC 9110 5.5', get('X-Test: val\0ue')],
    ['UTF-8 in a name', 'MAL-NON-ASCII-HEADER-NAME', 'RFC 9110 5.6.2', get('X-T\xc3\xabst: value')],
    [
      'UTF-8 in the target',
      'MAL-NON-ASCII-URL',
      'RFC 3986 2',
      request('GET $T/caf\xc3\xa9 HTTP/1.1'),
    ],
    [
      'an overlong slash in the target',
      'MAL-URL-OVERLONG-UTF8',
      'RFC 3629 3',
      request('GET $T/\xc0\xaf HTTP/1.1'),
    ],
    [
      'a length of 20 digits',
      'MAL-CL-OVERFLOW',
      'RFC 9110 8.6',
      post('', 'Content-Length: 99999999999999999999'),
    ],
    ['an empty length', 'MAL-CL-EMPTY', 'RFC 9110 8.6', post('', 'Content-Length: ')],
    [
      'a chunk size of 17 digits',
      'MAL-CHUNK-SIZE-OVERFLOW',
      'RFC 9112 7.1',
      chunked('FFFFFFFFFFFFFFFF0\r\nhello\r\n0\r\n\r\n'),
    ],
  ]),
  ...probes('both', refusedOrServed(400), [
    [
      'a tab before the length',
      'MAL-CL-TAB-BEFORE-VALUE',
      'RFC 9110 5.5',
      post('hello', 'Content-Length:\t5'),
    ],
  ]),
  ...probes('both', { text: '400 or close; 2xx to 4xx warns', judge: target }, [
    [
      'a backslash in the target',
      'MAL-URL-BACKSLASH',
      'RFC 3986 3.3',
      request('GET $T\\file HTTP/1.1'),
    ],
    [
      '%00 in the target',
      'MAL-URL-PERCENT-NULL',
      'RFC 3986 7.3',
      request('GET $T%00.html HTTP/1.1'),
    ],
    [
      '%0d%0a in the target',
      'MAL-URL-PERCENT-CRLF',
      'RFC 3986 7.3',
      request('GET $T%0d%0aX:%20a HTTP/1.1'),
    ],
  ]),
  ...probes('both', refusedOrServed(400, 431), [
    [
      'an extension of 64 KB',
      'MAL-CHUNK-EXT-64K',
      'CVE-2023-39326',
      chunked(`5;ext=${'a'.repeat(65_536)}\r\nhello\r\n0\r\n\r\n`),
    ],
  ]),
  // Fields whose name a server behind could read as another one.
  ...probes('now', notPassedOn('content_length'), [
    [
      'Content_Length',
      'NORM-UNDERSCORE-CL',
      'RFC 9110 5.1',
      post('hello', HELLO, 'Content_Length: 99'),
    ],
  ]),
  ...probes('now', notPassedOn('transfer_encoding'), [
    [
      'Transfer_Encoding beside a length',
      'NORM-UNDERSCORE-TE',
      'RFC 9110 5.1',
      post('hello', HELLO, 'Transfer_Encoding: chunked'),
    ],
  ]),
  ...probes('now', refused(), [
    [
      'a second length, a blank before its colon',
      'NORM-SP-BEFORE-COLON-CL',
      'RFC 9112 5.1',
      post('hello', HELLO, 'Content-Length : 3'),
    ],
    [
      'a tab in a name',
      'NORM-TAB-IN-NAME',
      'RFC 9110 5.6.2',
      post('hello', HELLO, 'Content\tLength: 99'),
    ],
  ]),
  // Not scored by Http11Probe.
  ...probes('no', refused(), [
    [
      'TRANSFER-ENCODING beside a length',
      'NORM-CASE-TE',
      'RFC 9112 6.1',
      post('hello', HELLO, 'TRANSFER-ENCODING: chunked'),
    ],
    ['a NUL in a cookie', 'COOK-NUL', 'RFC 9110 5.5', get('Cookie: foo=\0bar')],
    ['controls in a cookie', 'COOK-CONTROL-CHARS', 'RFC 9110 5.5', get('Cookie: foo=\x01\x02\x03')],
  ]),
  ...probes('no', refused(400, 431), [
    [
      'a cookie of 64 KB',
      'COOK-OVERSIZED',
      'RFC 9110 5.4',
      get(`Cookie: big=${'A'.repeat(65_536)}`),
    ],
  ]),
  ...probes('no', servedOrRefused(), [
    [
      '1,000 ranges',
      'MAL-RANGE-OVERLAPPING',
      'CVE-2011-3192',
      get(`Range: bytes=${Array(1000).fill('0-').join(',')}`),
    ],
    [
      '1,000 cookies in a field',
      'COOK-MANY-PAIRS',
      'RFC 6265 6.1',
      get(
        `Cookie: ${many(1000)
          .map(field => field.replace(': ', '='))
          .join('; ')}`,
      ),
    ],
    ['a cookie of separators', 'COOK-MALFORMED', 'RFC 6265 5.4', get('Cookie: ===;;;')],
    ['an empty cookie', 'COOK-EMPTY', 'RFC 6265 5.4', get('Cookie: ')],
    ['two Cookie fields', 'COOK-MULTI-HEADER', 'RFC 6265 5.4', get('Cookie: a=1', 'Cookie: b=2')],
    ['a cookie', 'COOK-ECHO', 'RFC 6265 5.4', get('Cookie: foo=bar')],
  ]),
]

function many(count: number): string[] {
  return Array.from({ length: count }, (_, i) => `X-H-${i}: value`)
}

/** The same bytes each time. */
function noise(): string {
  let state = 42
  const next = () => {
    state = (Math.imul(state, 1_103_515_245) + 12_345) >>> 0
    return String.fromCharCode((state >>> 16) & 0xff)
  }
  return Array.from({ length: 256 }, next).join('')
}

function preface({ status }: { status: number | null }) {
  return status === null || status === 400 || status === 505 ? 'pass' : 'fail'
}

function target({ status, isClosed }: { status: number | null; isClosed: boolean }) {
  if (status === 400 || (status === null && isClosed)) return 'pass'
  return status !== null && status < 500 ? 'warn' : 'fail'
}
