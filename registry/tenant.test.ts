import t from 'tap'
import { mayMove, parseTenantId, parseTenantKey, TENANT_STATUSES } from './tenant.ts'

t.test('a tenant id is a UUID, folded to lower case, and nothing else', async t => {
  const id = '0f8fad5b-d9cb-469f-a165-70867728950e'
  t.equal(parseTenantId(id), id)
  t.equal(parseTenantId(id.toUpperCase()), id)
  const bad = [
    ...[null, undefined, 1, {}, [id], '', ` ${id}`, `${id}\n`, id.slice(1), `${id}0`],
    ...[id.replaceAll('-', ''), id.replace('0', 'g'), id.replace('-', '\0'), `{${id}}`],
    // Folds to ASCII "k" or stays foreign: never part of an id.
    ...[id.replace('f', 'ſ'), id.replace('0', '٠')],
  ]
  for (const text of bad) t.equal(parseTenantId(text), null, JSON.stringify(text))
})

t.test(
  'a tenant key is 1 to 63 of a-z, 0-9, - and _, folded and without blanks around',
  async t => {
    for (const key of ['a', '0', 'acme', 'a-b_c', 'x'.repeat(63)]) t.equal(parseTenantKey(key), key)
    t.equal(parseTenantKey('  AcMe\n'), 'acme')
    const bad = [
      ...[
        null,
        undefined,
        5,
        {},
        ['a'],
        '',
        ' ',
        '-a',
        '_a',
        'a b',
        'a.b',
        'a/b',
        'a\0',
        'ä',
        'a\nb',
      ],
      ...['x'.repeat(64), ' '.repeat(128), `${' '.repeat(128)}a`, '__proto__', 'a%2e', "a'--"],
    ]
    for (const text of bad) t.equal(parseTenantKey(text), null, JSON.stringify(text))
    // U+212A KELVIN SIGN folds to k: the key is then plainly "k", not a look-alike.
    t.equal(parseTenantKey('\u212a'), 'k')
  },
)

t.test(
  'a status may be set again, leaves provisioning for good, and archived only to suspended',
  async t => {
    for (const status of TENANT_STATUSES) {
      t.equal(mayMove(status, status), true)
      if (status !== 'provisioning') t.equal(mayMove(status, 'provisioning'), false)
    }
    t.strictSame(
      TENANT_STATUSES.filter(to => mayMove('archived', to)),
      ['suspended', 'archived'],
    )
    t.equal(mayMove('active', 'suspended'), true)
    t.equal(mayMove('suspended', 'active'), true)
  },
)
