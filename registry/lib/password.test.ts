import { webcrypto } from 'node:crypto'
import t from 'tap'
import {
  DUMMY_PASSWORD_HASH,
  hashPassword,
  PASSWORD_BYTES_MAX,
  verifyPassword,
} from './password.ts'

const parametersOf = (hashed: string) => hashed.split('$').slice(0, 4).join('$')

t.test('a password opens its own hash alone, and every hash has its own salt', async t => {
  const [one, two] = [await hashPassword('pässword'), await hashPassword('pässword')]
  t.not(one, two)
  t.equal(parametersOf(one), '$argon2id$v=19$m=19456,t=2,p=1')
  t.equal(await verifyPassword(one, 'pässword'), true)
  for (const wrong of ['passwort', 'pässword ', '', 'Pässword']) {
    t.equal(await verifyPassword(one, wrong), false)
  }
})

t.test(
  'an unknown user costs what a known one does: same parameters, and it never opens',
  async t => {
    t.equal(parametersOf(DUMMY_PASSWORD_HASH), parametersOf(await hashPassword('x')))
    t.equal(DUMMY_PASSWORD_HASH.length, (await hashPassword('x')).length)
    t.equal(await verifyPassword(DUMMY_PASSWORD_HASH, ''), false)
  },
)

t.test('what is no hash, and what is too long, is false and no error', async t => {
  for (const hashed of ['', 'x', '$argon2id$', '$2b$10$abcdefghijklmnopqrstuv']) {
    t.equal(await verifyPassword(hashed, 'p'), false)
  }
  const long = 'x'.repeat(PASSWORD_BYTES_MAX + 1)
  t.equal(await verifyPassword(await hashPassword(long), long), false)
})

t.test('a storm of logins leaves the process threads for other work', async t => {
  const { subtle } = webcrypto
  const key = await subtle.importKey('raw', Buffer.from('p'), 'PBKDF2', false, ['deriveBits'])
  let done = 0
  const storm = Promise.all(
    Array.from({ length: 40 }, async () => {
      await verifyPassword(DUMMY_PASSWORD_HASH, 'x')
      done += 1
    }),
  )
  // What node-postgres does for each new connection (SCRAM-SHA-256).
  const scram = { name: 'PBKDF2', hash: 'SHA-256', salt: Buffer.alloc(16), iterations: 4096 }
  await subtle.deriveBits(scram, key, 256)
  t.ok(done < 20, `connected after ${done} of 40`)
  await storm
  t.equal(done, 40, 'and all have their turn')
})
