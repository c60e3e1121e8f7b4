import t from 'tap'
import { isObjectName, normalPrefix, objectKey } from './object-name.ts'

t.test('names with structure, control bytes or too many bytes are refused', async t => {
  const bad = [
    '',
    '.',
    '..',
    '../x',
    'a/../b',
    '/etc/passwd',
    'a/b',
    'a\\b',
    '..\\x',
    'a..b',
    '%2e%2e%2fx',
    '%2Fx',
    'a%00b',
    'a\u0000b',
    'a\r\nb',
    'a\u007fb',
    '\u2028',
    '\ud800',
    'x'.repeat(256),
    'ä'.repeat(128),
  ]
  for (const name of bad) {
    t.notOk(isObjectName(name), `bad name ${bad.indexOf(name)}`)
    t.throws(() => objectKey('p/', name), { code: 'VALIDATION_FAILED' })
  }
})

t.test('ordinary names go, each within its prefix', async t => {
  for (const name of [
    'a',
    'report.pdf',
    '.env',
    '50% off.txt',
    'Übersicht 1.txt',
    'a b+c',
    '%zz',
  ]) {
    t.equal(objectKey('acme/', name), `acme/${name}`)
  }
})

t.test('a prefix ends in a slash, so that no prefix begins another', async t => {
  t.equal(normalPrefix(null), '')
  t.equal(normalPrefix('acme'), 'acme/')
  t.equal(normalPrefix('acme/'), 'acme/')
  t.equal(normalPrefix('eu/acme/'), 'eu/acme/')
  for (const prefix of ['../x', 'a/../b', '/', 'a//b', '/a', 'a/./b']) {
    t.throws(() => normalPrefix(prefix), { code: 'TENANT_CONFIG_INVALID' }, prefix)
  }
})

t.test('a key that S3 would not take is refused', async t => {
  t.throws(() => objectKey(`${'p'.repeat(1000)}/`, 'x'.repeat(30)), { code: 'VALIDATION_FAILED' })
})
