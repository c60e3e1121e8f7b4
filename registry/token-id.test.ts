import t from 'tap'
import { jtiTokenId, tokenIdOf } from './token-id.ts'

/** What the table takes (migrations/registry/0007_revoked_tokens.sql). */
const FORM = /^[A-Za-z0-9._~:-]{1,128}$/

t.test('a usual jti is the id of its token', async t => {
  for (const jti of ['5b0c6a0e-6f6b-4b0e-9a55-2f2b3f5d7e11', '01J9ZQ3', 'a.b_c~d-e']) {
    t.equal(tokenIdOf(jti, 'h.p.s'), jti)
    t.equal(jtiTokenId(jti), jti)
  }
})

t.test(
  'any other jti goes by its hash, so that no two get one id and each fits the table',
  async t => {
    const jtis = [
      ...['a b', 'a\u0000b', 'ä', '\ud800', 'x'.repeat(129), 'x'.repeat(320), "'; DROP TABLE"],
      // What could be taken for a hash.
      ...['sha256:abc', 'jti-sha256:abc', ':'],
    ]
    const ids = jtis.map(jti => tokenIdOf(jti, 'h.p.s'))
    for (const [i, id] of ids.entries()) {
      t.match(id, FORM)
      t.equal(jtiTokenId(jtis[i] as string), id)
      t.not(id, jtis[i])
    }
    t.equal(new Set(ids).size, ids.length)
  },
)

t.test('a token without jti goes by what its signature covers', async t => {
  const id = tokenIdOf(undefined, 'head.claims.signature')
  t.match(id, /^sha256:[\w-]{43}$/)
  t.match(id, FORM)
  t.equal(tokenIdOf('', 'head.claims.signature'), id)
  t.equal(tokenIdOf(undefined, 'head.claims.other'), id, 'however its signature is written')
  t.not(tokenIdOf(undefined, 'head.claimz.signature'), id)
})
