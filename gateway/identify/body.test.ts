import t from 'tap'
import type { Fault } from '../../registry/lib/errors.ts'
import type { BodySink, BodySource } from '../exchange.ts'
import { AWAITED_BYTES_MAX, readBody, readFields, SMALL_BODY_BYTES } from './body.ts'

const JSON_TYPE = 'application/json'
const FORM_TYPE = 'application/x-www-form-urlencoded'
const fields = (text: string, type = JSON_TYPE, encoding: string | null = null) =>
  readFields(Buffer.from(text), type, encoding, ['tenant_key'])
const key = (text: string, type = JSON_TYPE) => fields(text, type).get('tenant_key')
const code = (act: () => unknown) => {
  try {
    act()
    return 'nothing thrown'
  } catch (error) {
    return (error as Fault).code
  }
}

t.test('the key is read from JSON and forms', async t => {
  t.equal(key('{"tenant_key":"acme","password":"a:{[\\"x"}'), 'acme')
  t.equal(key('{"x":{"tenant_key":"inner"}}'), undefined, 'and only at the top')
  t.equal(key('tenant_key=acme&password=%26', FORM_TYPE), 'acme')
  t.equal(fields('', JSON_TYPE).size, 0)
  t.ok(key('{"tenant_key":"acme"}', 'application/json; charset=UTF-8'))
})

t.test('a second key is refused, however it is spelt', async t => {
  const twice = [
    '{"tenant_key":"a","tenant_key":"b"}',
    '{"tenant_key":"a", "tenant_key" : "b"}',
    '{"tenant_key":"a","tenant\\u005fkey":"b"}',
    '{"tenant_key":"a","\\u0074enant_key":"b"}',
    '{"x":{"tenant_key":"c"},"tenant_key":"a","tenant_key":null}',
    '{"tenant_key":"a","TENANT_KEY":"b"}',
    '{"tenant_key":"a","tenant_\\u212aey":"b"}',
    '{"Tenant_Key":"b"}',
  ]
  for (const text of twice)
    t.equal(
      code(() => key(text)),
      'BODY_INVALID',
      text,
    )
  t.equal(
    key('{"tenant_key":"a","x":{"tenant_key":"b"},"y":["tenant_key"]}'),
    'a',
    'nested is data',
  )
  t.equal(key('{"tenant_key":"a","x":"\\",\\"tenant_key\\":\\"b"}'), 'a', 'a text is data')
})

t.test('a second key in a form is refused, whichever parser would see it', async t => {
  const twice = [
    ...['tenant_key=a&tenant_key=b', 'tenant_key=a&tenant%5Fkey=b', 'tenant_key=a&%74enant_key=b'],
    ...['tenant_key[]=a', 'tenant_key%5B%5D=a', 'tenant_key=a&tenant_key[0]=b', 'tenant_key[x]=a'],
    ...['[tenant_key]=a', 'tenant_key=a&[tenant_key]=b', 'tenant_key.x=a', 'tenant.key=a'],
    ...['tenant+key=a', 'tenant%20key=a', 'tenant[key=a', '+tenant_key=a', 'tenant_key%00x=a'],
    ...['tenant_key=a;tenant_key=b', 'x=1;tenant_key=b', 'x=1;tenant%5Fkey=b&tenant_key=a'],
  ]
  for (const text of twice)
    t.equal(
      code(() => key(text, FORM_TYPE)),
      'BODY_INVALID',
      text,
    )
  t.equal(key('tenant%5Fkey=a', FORM_TYPE), 'a', 'one is one, however it is encoded')
  t.equal(key('tenant_key=a&password=b;c', FORM_TYPE), 'a', 'a semicolon elsewhere is data')
  t.equal(key('tenant_key=a&my.tenant_key=b&tenant_keys=c', FORM_TYPE), 'a')
  t.equal(
    code(() => key(`${'a&'.repeat(2000)}tenant_key=a`, FORM_TYPE)),
    'BODY_INVALID',
  )
})

t.test('prototype names are data', async t => {
  t.equal(key('{"__proto__":{"tenant_key":"evil"}}'), undefined)
  t.equal(key('{"constructor":{"prototype":{"tenant_key":"evil"}}}'), undefined)
  t.equal(key('__proto__[tenant_key]=evil', FORM_TYPE), undefined)
  t.equal(({} as Record<string, unknown>).tenant_key, undefined)
  const names = readFields(Buffer.from('{"a":1}'), JSON_TYPE, null, ['__proto__', 'toString'])
  t.equal(names.size, 0, 'what is inherited is not in the body')
})

t.test('depth and number of members are bounded', async t => {
  t.equal(
    code(() => key(`${'{"a":'.repeat(40)}1${'}'.repeat(40)}`)),
    'BODY_INVALID',
  )
  t.equal(
    code(() => key('['.repeat(60_000))),
    'BODY_INVALID',
  )
  const members = Array.from({ length: 2000 }, (_, i) => `"${i}":1`).join(',')
  t.equal(
    code(() => key(`{${members}}`)),
    'BODY_INVALID',
  )
  const inner = Array.from({ length: 400 }, (_, i) => `{"${i * 2 ** 20}":1,"b":{"c":[{}]}}`)
  t.equal(
    code(() => key(`{"tenant_key":"a","x":[${inner}]}`)),
    'BODY_INVALID',
    'members of all objects count together',
  )
})

t.test('what is not a JSON object is refused', async t => {
  for (const text of ['{', '[]', '"x"', 'null', '{"a":1}x', '{"a', '\ufeff{}', "{'a':1}"]) {
    t.equal(
      code(() => key(text)),
      'BODY_INVALID',
      text,
    )
  }
  t.equal(
    code(() => readFields(Buffer.from([0x7b, 0xff, 0x7d]), JSON_TYPE, null, [])),
    'BODY_INVALID',
  )
  t.equal(
    code(() => key('\ufefftenant_key=a', FORM_TYPE)),
    'BODY_INVALID',
    'a byte order mark',
  )
})

t.test('content types are by list', async t => {
  for (const type of [
    'text/plain',
    'multipart/form-data',
    '',
    'application/json; charset=utf-16',
    'application/json; charset=utf-8; charset=utf-16',
    "application/json; charset*=utf-16''x",
    'application/json; charset',
    'application/json, text/plain',
    'application/jsonp',
    'application/vnd.api+json',
    'text/json',
  ]) {
    t.equal(
      code(() => key('{}', type)),
      'BODY_TYPE_UNSUPPORTED',
      type,
    )
  }
  t.equal(
    code(() => fields('{}', JSON_TYPE, 'gzip')),
    'BODY_TYPE_UNSUPPORTED',
  )
})

function source(length: number | null, act: (sink: BodySink) => void): BodySource {
  return { length, start: act, pause() {}, resume() {} }
}

t.test('a body is read up to its bound, and not past it', async t => {
  const body = await readBody(
    source(null, sink => {
      sink.onBodyBytes(Buffer.from('ab'))
      sink.onBodyBytes(Buffer.from('c'))
      sink.onBodyEnd()
    }),
    3,
    1000,
    { bytes: 0 },
  )
  t.equal(body.toString(), 'abc')
  await t.rejects(
    readBody(
      source(4, () => t.fail('was started')),
      3,
      1000,
      { bytes: 0 },
    ),
    { code: 'BODY_TOO_LARGE' },
  )
  await t.rejects(
    readBody(
      source(null, sink => sink.onBodyBytes(Buffer.alloc(4))),
      3,
      1000,
      { bytes: 0 },
    ),
    { code: 'BODY_TOO_LARGE' },
  )
})

t.test('a body that never ends is given up at its deadline', async t => {
  await t.rejects(
    readBody(
      source(null, () => {}),
      3,
      20,
      { bytes: 0 },
    ),
    { code: 'REQUEST_TIMEOUT' },
  )
})

t.test('large bodies on their way share one bound, small ones are read all the same', async t => {
  const awaited = { bytes: 0 }
  const size = 1024 * 1024
  const read = (bytes: Buffer, isEnded = false) =>
    readBody(
      source(null, sink => {
        sink.onBodyBytes(bytes)
        if (isEnded) sink.onBodyEnd()
      }),
      size,
      50,
      awaited,
    ).then(
      ({ length }) => length,
      ({ code }: Fault) => code,
    )
  const large = Buffer.alloc(size)
  const flood = Array.from({ length: 80 }, () => read(large))
  t.ok(awaited.bytes <= AWAITED_BYTES_MAX && awaited.bytes > AWAITED_BYTES_MAX - size)
  t.equal(await read(large, true), 'OVERLOADED')
  t.equal(await read(Buffer.alloc(SMALL_BODY_BYTES), true), SMALL_BODY_BYTES)
  const codes = await Promise.all(flood)
  t.equal(codes.filter(code => code === 'REQUEST_TIMEOUT').length, 64)
  t.equal(codes.filter(code => code === 'OVERLOADED').length, 16)
  t.equal(awaited.bytes, 0, 'all of it is given back')
  t.equal(await read(large, true), size)
  t.equal(awaited.bytes, 0)
})
