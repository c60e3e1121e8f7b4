import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { readCa, readPem } from './ca.ts'

const PEM = '-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n'

t.test('a CA is PEM text where it begins as such, else the path of a file', async t => {
  const folder = await mkdtemp(join(tmpdir(), 'doorman-ca-'))
  t.teardown(() => rm(folder, { recursive: true }))
  const path = join(folder, 'ca.pem')
  await writeFile(path, `# of the database team\n${PEM}`)
  t.equal(readPem(PEM), PEM)
  t.match(readPem(path), PEM)
  t.match(await readCa(path, 'DB_SSL_CA'), PEM)
  t.equal(await readCa(undefined, 'DB_SSL_CA'), undefined)

  await writeFile(path, 'not a certificate')
  t.throws(() => readPem(path), /must be a certificate in PEM/)
  t.throws(() => readPem('-----BEGIN PRIVATE KEY-----'), /must be a certificate in PEM/)
  await t.rejects(readCa(join(folder, 'none'), 'DB_SSL_CA'), {
    message: 'DB_SSL_CA cannot be read: ENOENT',
  })
})
