import { generateKeyPairSync } from 'node:crypto'
import { rename, rm, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { makeCertificateAuthority } from '../../deploy/local/certificates.ts'
import { EnvError } from '../../registry/lib/env.ts'
import { makeLog } from '../../registry/lib/log.ts'
import { TlsKeys, tlsProblems } from './tls-keys.ts'

const ca = makeCertificateAuthority()
const DAY_MS = 86_400_000

function pair(name: string, options: { notBefore?: Date; notAfter?: Date } = {}) {
  const { cert, key } = ca.issue({ names: [name], ...options })
  return { 'cert.pem': cert, 'key.pem': key }
}

async function open(t: Test, folder: string, hosts?: string) {
  const lines: Record<string, unknown>[] = []
  const log = makeLog('test', 'info', { write: line => void lines.push(JSON.parse(line)) })
  const names = {
    cert: join(folder, 'cert.pem'),
    key: join(folder, 'key.pem'),
    hosts: hosts === undefined ? undefined : join(folder, hosts),
  }
  const keys = (await TlsKeys.open({ names, reloadMs: 3_600_000, log })) as TlsKeys
  t.teardown(() => keys.close())
  return { keys, lines, names }
}

t.test(
  'without a file there is no TLS; each problem of the files is named at the start',
  async t => {
    const none = { cert: undefined, key: undefined, hosts: undefined }
    t.strictSame(tlsProblems(none), [])
    const log = makeLog('test', 'silent')
    t.equal(await TlsKeys.open({ names: none, reloadMs: 1000, log }), null)

    const a = pair('a.example')
    const locked = generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey.export({
      type: 'pkcs8',
      format: 'pem',
      cipher: 'aes-256-cbc',
      passphrase: 'secret',
    })
    const host = (name: string, cert: string, key: string) =>
      JSON.stringify({ [name]: { cert, key } })
    const folder = t.testdir({
      ...a,
      'other.pem': pair('a.example')['key.pem'],
      'locked.pem': locked,
      'no-json': '{',
      'bad-host': host('*.*.example', 'cert.pem', 'key.pem'),
      'upper-host': host('A.example', 'cert.pem', 'key.pem'),
      'no-key': '{"a.example":{"cert":"cert.pem"}}',
      'wrong-host': host('b.example', 'cert.pem', 'key.pem'),
      'two-wrong': JSON.stringify({
        'b.example': { cert: 'cert.pem', key: 'key.pem' },
        'a.example': { cert: 'cert.pem', key: 'other.pem' },
      }),
    })
    const at = (name: string | undefined) => (name === undefined ? undefined : join(folder, name))
    const problems = (cert?: string, key?: string, hosts?: string) =>
      tlsProblems({ cert: at(cert), key: at(key), hosts: at(hosts) })
    t.strictSame(problems('cert.pem', 'key.pem'), [])
    t.match(problems('cert.pem'), [/^TLS_KEY_FILE is required/])
    t.match(problems(undefined, 'key.pem'), [/^TLS_CERT_FILE is required/])
    t.match(problems(undefined, undefined, 'no-json'), [/^TLS_CERT_FILE is required/])
    t.match(problems('none.pem', 'key.pem'), [/none\.pem cannot be read: ENOENT/])
    t.match(problems('key.pem', 'cert.pem'), [/key\.pem holds no certificate in PEM/])
    t.match(problems('cert.pem', 'cert.pem'), [/cert\.pem holds no private key in PEM/])
    t.match(problems('cert.pem', 'locked.pem'), [/locked\.pem holds no private key.*passphrase/])
    t.match(problems('cert.pem', 'other.pem'), [/other\.pem is not the key of .*cert\.pem/])
    t.match(problems('cert.pem', 'key.pem', 'no-json'), [/^TLS_SNI_FILE cannot be read: no JSON/])
    t.match(problems('cert.pem', 'key.pem', 'nothing'), [/^TLS_SNI_FILE cannot be read: ENOENT/])
    t.match(problems('cert.pem', 'key.pem', 'bad-host'), [/^TLS_SNI_FILE \*\.\*\.example /])
    t.match(problems('cert.pem', 'key.pem', 'upper-host'), [/^TLS_SNI_FILE A\.example /])
    t.match(problems('cert.pem', 'key.pem', 'no-key'), [/^TLS_SNI_FILE a\.example\.key /])
    t.match(problems('cert.pem', 'key.pem', 'wrong-host'), [/b\.example: .*is not for b\.example/])
    const two = problems('cert.pem', 'key.pem', 'two-wrong')
    t.equal(two.length, 2, 'all at once')
    await t.rejects(
      TlsKeys.open({
        names: { cert: at('cert.pem'), key: at('other.pem'), hosts: undefined },
        reloadMs: 1000,
        log,
      }),
      EnvError,
    )
  },
)

t.test(
  'a host has its own certificate, a wildcard is for one label, anyone else gets the standard',
  async t => {
    const folder = t.testdir({
      ...pair('standard.example'),
      api: pair('api.example'),
      tenants: pair('*.tenants.example'),
      'hosts.json': JSON.stringify({
        'api.example': { cert: 'api/cert.pem', key: 'api/key.pem' },
        '*.tenants.example': { cert: 'tenants/cert.pem', key: 'tenants/key.pem' },
      }),
    })
    const { keys } = await open(t, folder, 'hosts.json')
    const api = keys.contextFor('api.example')
    const tenants = keys.contextFor('acme.tenants.example')
    t.ok(api)
    t.ok(tenants)
    t.not(api, tenants)
    t.not(api, keys.standard)
    t.equal(keys.contextFor('API.example'), api, 'names have no case')
    t.equal(keys.contextFor('globex.tenants.example'), tenants)
    const strangers = [
      'tenants.example',
      'a.b.tenants.example',
      'x.api.example',
      'localhost',
      '*',
      '.',
    ]
    for (const name of strangers) t.equal(keys.contextFor(name), null, name)
    t.equal(keys.contextFor('__proto__'), null)
  },
)

t.test(
  'a new certificate is taken over, also through swapped links, and a bad one stays out',
  async t => {
    const soonMs = Date.now() + 20 * DAY_MS
    const folder = t.testdir({
      first: pair('a.example', { notAfter: new Date(soonMs) }),
      second: pair('a.example'),
      third: { 'cert.pem': pair('a.example')['cert.pem'], 'key.pem': pair('a.example')['key.pem'] },
      expired: pair('a.example', { notAfter: new Date(Date.now() - 1000) }),
    })
    const point = async (target: string) => {
      await rm(join(folder, 'next'), { force: true })
      await symlink(target, join(folder, 'next'))
      await rename(join(folder, 'next'), join(folder, 'data'))
    }
    await point('first')
    const { keys, lines } = await open(t, join(folder, 'data'))
    const first = keys.standard
    t.ok(Math.abs(keys.expiresInS(Date.now()) - 20 * 86_400) < 10)
    await keys.reload()
    t.equal(keys.standard, first, 'what has not changed is not read again')
    t.equal(lines.length, 0)

    await point('second')
    await Promise.all([keys.reload(), keys.reload()])
    const second = keys.standard
    t.not(second, first)
    t.ok(keys.expiresInS(Date.now()) > 80 * 86_400)
    t.match(lines, [{ msg: 'certificates taken over', certificates: ['standard'] }])

    for (const [bad, reason] of [
      ['third', /is not the key of/],
      ['expired', /has expired/],
      ['nowhere', /cannot be read: ENOENT/],
    ] as const) {
      lines.length = 0
      await point(bad)
      await keys.reload()
      await keys.reload()
      t.equal(keys.standard, second, bad)
      t.equal(keys.refusedCount, 1)
      t.equal(lines.length, 1, 'said once')
      t.match(lines[0], { level: /error|50/, msg: /the one before serves on/, reason })
      t.notMatch(JSON.stringify(lines), /PRIVATE|BEGIN/)
    }
    await point('first')
    await keys.reload()
    t.equal(keys.refusedCount, 0)
    t.not(keys.standard, second)
  },
)

t.test('hosts come and go with their file, and a broken file changes nothing', async t => {
  const hosts = (...names: string[]) =>
    JSON.stringify(
      Object.fromEntries(names.map(name => [name, { cert: 'a/cert.pem', key: 'a/key.pem' }])),
    )
  const folder = t.testdir({
    ...pair('standard.example'),
    a: pair('*.t.example'),
    'hosts.json': hosts('a.t.example'),
  })
  const { keys, lines } = await open(t, folder, 'hosts.json')
  const a = keys.contextFor('a.t.example')
  t.ok(a)
  await writeFile(join(folder, 'hosts.json'), hosts('a.t.example', 'b.t.example'))
  await keys.reload()
  t.ok(keys.contextFor('b.t.example'))
  t.equal(keys.contextFor('a.t.example'), a)
  await writeFile(join(folder, 'hosts.json'), '{')
  await keys.reload()
  t.ok(keys.contextFor('b.t.example'))
  t.equal(keys.refusedCount, 1)
  t.match(lines.at(-1), { reason: /TLS_SNI_FILE/ })
  await writeFile(join(folder, 'hosts.json'), hosts('b.t.example'))
  await keys.reload()
  t.equal(keys.contextFor('a.t.example'), null)
  t.equal(keys.refusedCount, 0)
})

t.test('less than 14 days before its end a certificate is in the log, once a day', async t => {
  const inDays = (days: number) => ({ notAfter: new Date(Date.now() + days * DAY_MS) })
  const folder = t.testdir({
    ...pair('a.example', inDays(60)),
    b: pair('b.example', inDays(13)),
    'hosts.json': '{"b.example":{"cert":"b/cert.pem","key":"b/key.pem"}}',
  })
  const { keys, lines } = await open(t, folder, 'hosts.json')
  await keys.reload()
  t.equal(lines.length, 1)
  t.match(lines[0], { msg: 'a certificate expires soon', certificate: 'b.example' })
  const gone = t.testdir({ ...pair('a.example', inDays(-1)) })
  const late = await open(t, gone)
  t.match(late.lines, [{ msg: 'a certificate has expired', certificate: 'standard' }])
  t.ok(late.keys.expiresInS(Date.now()) < 0)
})
