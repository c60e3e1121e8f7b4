import t from 'tap'
import type { Fault } from '../registry/lib/errors.ts'
import { canonicalTarget, pathOf } from './target.ts'

t.test('a canonical target is forwarded as it came', async t => {
  const targets = [
    '/',
    '/api/projects',
    '/api/projects/',
    '/api/files/a%20b.txt',
    '/api/files/100%25',
    '/api/files/%E2%82%AC',
    '/api/...',
    '/api/.well-known',
    "/api/a-b._~!$&'()*+,:@=",
    '/api/x?q=a//b/../c;d&e=%2e%2F',
    '/api/x?',
    '/healthz',
  ]
  for (const target of targets) t.equal(canonicalTarget(target, 'h'), target, target)
})

t.test('what two parsers could read as two paths is refused', async t => {
  const targets = [
    '',
    '*',
    'api/x',
    '//evil/api',
    '/api//x',
    '/api/../admin',
    '/api/..',
    '/api/.',
    '/./api',
    '/api/%2e%2e/admin',
    '/api/%2E/x',
    '/api%2fauth',
    '/api%2Fauth',
    '/api/%5cx',
    '/api\\x',
    '/api/;x=1',
    '/api/%3bx',
    '/api/%61uth/login',
    '/api/x%00',
    '/api/x%0d%0a',
    '/api/x%7f',
    '/api/%252e%252e/x',
    '/api/%',
    '/api/%4',
    '/api/%zz',
    '/api/x#y',
    '/api/x?y#z',
    '/api/é',
    '/api/\u0000',
    '/api/x y',
    '/api/x?a b',
    '/api/x?é',
    '/api/<x>',
    '/api/x|y',
    '/api/"x"',
    'http://other/api/x',
    'http://h@other/api/x',
    'ftp://h/api/x',
    'http://h',
  ]
  for (const target of targets.slice(0, -1)) {
    try {
      t.fail(`${target} became ${canonicalTarget(target, 'h')}`)
    } catch (error) {
      t.equal((error as Fault).code, 'TARGET_INVALID', JSON.stringify(target))
    }
  }
})

t.test('absolute-form that agrees with Host becomes origin-form', async t => {
  t.equal(canonicalTarget('http://H:80/api/x?y=1', 'h:80'), '/api/x?y=1')
  t.equal(canonicalTarget('http://h', 'h'), '/')
  t.throws(() => canonicalTarget('http://h/api', null))
})

t.test('the path ends at the first question mark', async t => {
  t.equal(pathOf('/a?b?c'), '/a')
  t.equal(pathOf('/a'), '/a')
})
