import t from 'tap'
import { newPassword, scramVerifier } from './scram.ts'

t.test('a verifier has its parts, is never the same twice, and holds no password', async t => {
  const password = newPassword()
  const [one, two] = [await scramVerifier(password), await scramVerifier(password)]
  t.match(one, /^SCRAM-SHA-256\$4096:[\w+/=]{24}\$[\w+/=]{44}:[\w+/=]{44}$/)
  t.not(one, two)
  t.notOk(one.includes(password))
  t.not(newPassword(), password)
})

t.test('what SASLprep would change is refused', async t => {
  for (const bad of ['', 'a b', 'ä', 'a\u0000']) await t.rejects(scramVerifier(bad))
})
