import { createCipheriv, pbkdf2Sync, randomBytes } from 'node:crypto'
import { inspect } from 'node:util'
import t from 'tap'
import { EnvelopeError, Keyring, type SecretPlace } from './envelope.ts'

const MASTER = 'correct horse battery staple, and more'
const place: SecretPlace = { owner: 'tenant-a', column: 'db_password_encrypted' }
const keyring = await Keyring.derive([MASTER])
const other = await Keyring.derive(['f'.repeat(64)])

function sealLegacy(master: string, plaintext: string): Buffer {
  const key = pbkdf2Sync(master, 'tenant-registry-salt', 100_000, 32, 'sha256')
  const iv = randomBytes(16)
  const cipher = createCipheriv('aes-256-gcm', key, iv)
  const sealed = Buffer.concat([cipher.update(plaintext, 'utf8'), cipher.final()])
  return Buffer.concat([iv, cipher.getAuthTag(), sealed])
}

function flip(bytes: Buffer, index: number): Buffer {
  const copy = Buffer.from(bytes)
  copy[index] = (copy[index] ?? 0) ^ 1
  return copy
}

t.test('what is sealed opens again, and no two seals are alike', async t => {
  for (const text of ['', 'p', 'pässwörd ✓', 'x'.repeat(10_000)]) {
    const [one, two] = [keyring.encrypt(text, place), keyring.encrypt(text, place)]
    t.not(one, two)
    t.equal(keyring.decrypt(one, place), text)
    t.match(one, new RegExp(`^v1\\.${keyring.currentKeyId}\\.[A-Za-z0-9_-]+$`))
    t.equal(keyring.isOutdated(one), false)
  }
})

t.test('every single byte is covered: iv, ciphertext, tag, key id', async t => {
  const sealed = keyring.encrypt('secret', place)
  const [version, id, body] = sealed.split('.') as [string, string, string]
  const bytes = Buffer.from(body, 'base64url')
  t.equal(bytes.length, 12 + 6 + 16)
  for (let i = 0; i < bytes.length; i++) {
    const tampered = `${version}.${id}.${flip(bytes, i).toString('base64url')}`
    t.throws(() => keyring.decrypt(tampered, place), EnvelopeError, `byte ${i}`)
  }
  for (const cut of [1, 6, 16, 33]) {
    const short = bytes.subarray(0, bytes.length - cut).toString('base64url')
    t.throws(() => keyring.decrypt(`${version}.${id}.${short}`, place), EnvelopeError)
  }
  t.throws(
    () => keyring.decrypt(`${version}.${'0'.repeat(16)}.${body}`, place),
    /unknown master key/,
  )
  t.throws(() => keyring.decrypt(`v2.${id}.${body}`, place), EnvelopeError)
  for (const odd of ['', 'v1', 'v1..', 'not base64 !!!', '\0']) {
    t.throws(() => keyring.decrypt(odd, place), EnvelopeError)
  }
})

t.test('a ciphertext moved to another tenant or column does not open', async t => {
  const sealed = keyring.encrypt('secret', place)
  t.throws(() => keyring.decrypt(sealed, { ...place, owner: 'tenant-b' }), EnvelopeError)
  for (const column of ['bucket_access_key_encrypted', 'key_check'] as const) {
    t.throws(() => keyring.decrypt(sealed, { ...place, column }), EnvelopeError)
  }
})

t.test('values of the older tool open, tampered ones do not', async t => {
  for (const text of ['', 'pässword', 'x'.repeat(500)]) {
    const old = sealLegacy(MASTER, text).toString('base64')
    t.equal(keyring.decrypt(old, place), text)
    t.equal(keyring.isOutdated(old), true)
  }
  const bytes = sealLegacy(MASTER, 'secret')
  for (let i = 0; i < bytes.length; i++) {
    t.throws(
      () => keyring.decrypt(flip(bytes, i).toString('base64'), place),
      EnvelopeError,
      `byte ${i}`,
    )
  }
  t.throws(() => other.decrypt(bytes.toString('base64'), place), EnvelopeError)
  const hex = await Keyring.derive(['ab'.repeat(32)])
  t.equal(
    hex.decrypt(sealLegacy('ab'.repeat(32), 'hex master').toString('base64'), place),
    'hex master',
  )
})

t.test('a new value cannot be passed off as an old one, which has no additional data', async t => {
  const body = keyring.encrypt('secret', place).split('.')[2] as string
  t.throws(() => keyring.decrypt(Buffer.from(body, 'base64url').toString('base64'), place))
})

t.test('rotation: all keys open, the first seals, a removed key is refused', async t => {
  const sealed = keyring.encrypt('secret', place)
  const old = sealLegacy(MASTER, 'older').toString('base64')
  const rotated = await Keyring.derive(['f'.repeat(64), MASTER])
  t.equal(rotated.decrypt(sealed, place), 'secret')
  t.equal(rotated.decrypt(old, place), 'older')
  t.equal(rotated.isOutdated(sealed), true)
  const fresh = rotated.encrypt('secret', place)
  t.equal(other.decrypt(fresh, place), 'secret')
  t.throws(() => keyring.decrypt(fresh, place), /unknown master key/)
  t.throws(() => other.decrypt(sealed, place), EnvelopeError)
  t.not(keyring.currentKeyId, other.currentKeyId)
  await t.rejects(Keyring.derive([]), EnvelopeError)
})

t.test('neither an error nor a dump of the keyring shows a secret', async t => {
  const sealed = keyring.encrypt('MARKER', place)
  try {
    other.decrypt(sealed, place)
    t.fail('opened')
  } catch (error) {
    t.notMatch(inspect(error), /MARKER/)
    t.notOk(inspect(error).includes(sealed))
  }
  t.notMatch(inspect(keyring, { depth: 9, showHidden: true }), /horse|legacyKey|Buffer/)
  t.equal(JSON.stringify(keyring), '{}')
})
