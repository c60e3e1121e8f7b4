import { generateKeyPairSync } from 'node:crypto'
import t from 'tap'
import { readJwks } from './jwks.ts'
import { makeSigner } from './test-kit.ts'

const rsa = makeSigner('RS256', 'rsa')
const ec = makeSigner('ES256', 'ec')
const ed = makeSigner('EdDSA', 'ed')
const read = (...keys: unknown[]) => readJwks(JSON.stringify({ keys }))
const kidsOf = async (...keys: unknown[]) => [...(await read(...keys, ed.jwk)).keys()]

t.test('each key verifies by the one algorithm of its kind', async t => {
  const keys = await read(rsa.jwk, ec.jwk, ed.jwk)
  t.strictSame(
    [...keys.values()].map(({ kid, algorithm }) => [kid, algorithm]),
    [
      ['rsa', 'RS256'],
      ['ec', 'ES256'],
      ['ed', 'EdDSA'],
    ],
  )
  t.strictSame(
    [...keys.values()].map(({ key }) => key.usages),
    [['verify'], ['verify'], ['verify']],
  )
  const { alg: _, use: __, ...bare } = rsa.jwk
  t.equal((await read(bare)).get('rsa')?.algorithm, 'RS256', 'also where it does not say')
})

t.test('a key set with a private or a symmetric key is refused as a whole', async t => {
  const secret = {
    kty: 'oct',
    k: Buffer.alloc(32, 1).toString('base64url'),
    kid: 's',
    alg: 'HS256',
  }
  for (const leaked of [rsa, ec, ed].map(({ privateKey, kid }) => ({
    ...privateKey.export({ format: 'jwk' }),
    kid,
  })))
    await t.rejects(read(makeSigner('EdDSA').jwk, leaked), /private or symmetric/)
  await t.rejects(read(ed.jwk, secret), /private or symmetric/)
  await t.rejects(read(ed.jwk, { ...secret, kty: 'RSA' }), /private or symmetric/)
})

t.test('use, key_ops and alg of a key are honoured', async t => {
  const others = [
    { use: 'enc' },
    { key_ops: ['sign'] },
    { key_ops: 'verify' },
    { alg: 'RS512' },
    { alg: 'PS256' },
    { alg: 'RSA-OAEP-256' },
    { alg: 'HS256' },
    { alg: 'none' },
    { kid: undefined },
    { kid: '' },
    { kid: 7 },
    { kid: 'x'.repeat(300) },
    { kty: 'EC' },
    { n: undefined },
    { n: `${rsa.jwk.n}=` },
  ]
  for (const other of others) {
    t.strictSame(await kidsOf({ ...rsa.jwk, ...other }), ['ed'], JSON.stringify(other))
  }
  t.strictSame(await kidsOf({ ...rsa.jwk, key_ops: ['verify'] }), ['rsa', 'ed'])
  t.strictSame(await kidsOf({ ...ec.jwk, crv: 'P-384' }), ['ed'])
  t.strictSame(await kidsOf({ ...ec.jwk, x: ec.jwk.y }), ['ed'], 'a point off its curve')
})

t.test('RSA keys that are short, huge or have a hollow exponent are refused', async t => {
  t.strictSame(await kidsOf(makeSigner('RS256', 'short', 1024).jwk), ['ed'])
  t.strictSame(await kidsOf(makeSigner('RS256', 'short', 2040).jwk), ['ed'])
  const huge = Buffer.alloc(1024, 0xff).toString('base64url')
  t.strictSame(await kidsOf({ ...rsa.jwk, n: huge }), ['ed'])
  const short = Buffer.from(String(makeSigner('RS256', 'x', 1024).jwk.n), 'base64url')
  const padded = Buffer.concat([Buffer.alloc(128), short]).toString('base64url')
  t.strictSame(await kidsOf({ ...rsa.jwk, n: padded }), ['ed'], 'zeros in front do not count')
  for (const e of ['AQ', 'Ag', 'AA', 'AQAAAAE']) {
    t.strictSame(await kidsOf({ ...rsa.jwk, e }), ['ed'], e)
  }
  const { publicKey } = generateKeyPairSync('rsa', { modulusLength: 2048, publicExponent: 3 })
  const three = publicKey.export({ format: 'jwk' })
  t.strictSame(await kidsOf({ ...three, kid: 'three' }), ['three', 'ed'])
})

t.test('one kid is one key', async t => {
  await t.rejects(read(ec.jwk, { ...makeSigner('ES256').jwk, kid: 'ec' }), /one kid/)
  await t.rejects(read(ec.jwk, { ...ed.jwk, kid: 'ec' }), /one kid/)
  t.equal((await read(ec.jwk, ec.jwk)).size, 1, 'the same key twice is one')
})

t.test('what is no key set, is empty or too long is refused, and none of it is quoted', async t => {
  const texts = ['', 'MARKER', '[]', 'null', '{}', '{"keys":{}}', '{"keys":[1]}', '{"keys":[]}']
  for (const text of texts) await t.rejects(readJwks(text), { message: /^(?!.*MARKER)/ }, text)
  await t.rejects(read(...Array(33).fill(ed.jwk)), /more than 32/)
  await t.rejects(read({ ...rsa.jwk, use: 'enc' }), /no usable key/)
})
