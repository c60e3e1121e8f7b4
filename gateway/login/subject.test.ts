import t from 'tap'
import { canonicalAccount } from './subject.ts'

t.test('spellings of one account that an app may fold are one', async t => {
  const spellings = [
    'jose@acme.example',
    ' Jose@ACME.example ',
    'jos\u00e9@acme.example',
    'jose\u0301@acme.example',
    '\uff4aose@acme.example',
    'jo\u200bse@acme.example',
    'jose@acme.example\u0000',
    'jo\u00adse@acme.example\n',
    `${' '.repeat(315)}jose@acme.example`,
    `${'\u0301\u200b\t'.repeat(20_000)}jose@acme.example`,
  ]
  for (const spelling of spellings) t.equal(canonicalAccount(spelling), spellings[0])
  t.not(canonicalAccount('joe@acme.example'), spellings[0])
  t.equal(canonicalAccount(12345), '12345')
})

t.test('what names no account is none, and what is no text is one account', async t => {
  t.equal(canonicalAccount(undefined), null)
  t.equal(canonicalAccount(null), null)
  for (const odd of [['jose@acme.example'], {}, true]) t.equal(canonicalAccount(odd), '?')
})

t.test('an account is bounded, whatever it expands to', async t => {
  t.equal(canonicalAccount('x'.repeat(100_000))?.length, 320)
  // One character that decomposes into eighteen.
  t.equal(canonicalAccount('\ufdfa'.repeat(100_000))?.length, 320)
})
