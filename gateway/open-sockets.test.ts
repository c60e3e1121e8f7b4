import { randomUUID } from 'node:crypto'
import t from 'tap'
import type { TenantId } from '../registry/tenant.ts'
import { OpenSockets, type SocketToken } from './open-sockets.ts'
import { until } from './test-kit.ts'

t.test('an expired token ends sockets and streams, and no answer that ends by itself', async t => {
  const sockets = new OpenSockets()
  t.teardown(() => sockets.close())
  const tenant = randomUUID() as string as TenantId
  const nowS = Date.now() / 1000
  const expired: SocketToken = {
    tokenId: 'a',
    issuedAtS: nowS - 60,
    expiresAtS: nowS - 1,
    issuer: null,
  }
  const ends: string[] = []
  const add = (name: string, lasts: boolean) => {
    const onCut = () => {
      ends.push(`${name} cut`)
      forget()
    }
    const goAway = lasts ? () => ends.push(`${name} told`) : null
    const forget = sockets.add(tenant, expired, onCut, goAway)
  }
  // First, so that a sweep meets it before the other.
  add('answer', false)
  add('stream', true)
  t.equal(sockets.count, 1, 'an answer is no open socket')
  await until(() => ends.length > 0)
  t.strictSame(ends, ['stream cut'])
  add('stream', true)
  sockets.goAway()
  t.strictSame(ends, ['stream cut', 'stream told'])
  sockets.cutLasting(tenant)
  t.strictSame(ends.splice(0), ['stream cut', 'stream told', 'stream cut'])
  sockets.cutTenant(tenant)
  t.strictSame(ends, ['answer cut'])
  t.equal(sockets.count, 0)
  t.notOk(sockets.has(tenant))
})
