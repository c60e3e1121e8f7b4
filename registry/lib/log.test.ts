import { Writable } from 'node:stream'
import t from 'tap'
import { makeLog } from './log.ts'

t.test('secrets by their known names are cut out, at the top and one level down', async t => {
  const lines: string[] = []
  const sink = new Writable({
    write(chunk, _encoding, done) {
      lines.push(String(chunk))
      done()
    },
  })
  const log = makeLog('test', 'info', sink)
  const secrets = {
    ...{ password: 'MARKER', access_key: 'MARKER', secretKey: 'MARKER', mac: 'MARKER' },
    ...{ 'x-tenant-context': 'MARKER', 'x-tenant-request': 'MARKER', 'x-admin-api-key': 'MARKER' },
    ...{ authorization: 'MARKER', cookie: 'MARKER', refreshToken: 'MARKER', tempToken: 'MARKER' },
    ...{ db_password_encrypted: 'MARKER', bucket_secret_key_encrypted: 'MARKER' },
  }
  log.info(secrets, 'top')
  log.info({ headers: secrets, db: secrets }, 'nested')
  log.debug('below the level')
  t.equal(lines.length, 2)
  t.notMatch(lines.join(''), 'MARKER')
  t.match(JSON.parse(lines[0] as string), { name: 'test', level: 'info', msg: 'top' })
})
