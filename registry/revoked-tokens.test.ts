import fc from 'fast-check'
import t from 'tap'
import { RevokedTokens } from './revoked-tokens.ts'
import type { TenantId } from './tenant.ts'

const ACME = '00000000-0000-4000-8000-00000000000a' as TenantId
const GLOBEX = '00000000-0000-4000-8000-00000000000b' as TenantId
const NOW_MS = 1_700_000_000_000
const NOW_S = NOW_MS / 1000

t.test('a revoked token is refused in its own tenant and in no other', async t => {
  const revoked = new RevokedTokens({ entriesMax: 1000 })
  const { version } = revoked
  t.equal(revoked.has(ACME, 'j', NOW_S, NOW_S + 900), false)
  t.equal(revoked.add({ tenantId: ACME, tokenId: 'j', expiresAtS: NOW_S + 900 }, NOW_MS), true)
  t.not(revoked.version, version, 'who saw it pass looks again')
  t.equal(revoked.has(ACME, 'j', NOW_S, NOW_S + 900), true)
  t.equal(revoked.has(GLOBEX, 'j', NOW_S, NOW_S + 900), false)
  t.equal(revoked.has(ACME, 'k', NOW_S, NOW_S + 900), false)
})

t.test('what is told twice is no news, and what has expired is none at all', async t => {
  const revoked = new RevokedTokens({ entriesMax: 1000 })
  const one = { tenantId: ACME, tokenId: 'j', expiresAtS: NOW_S + 900 }
  revoked.add(one, NOW_MS)
  const { version } = revoked
  t.equal(revoked.add(one, NOW_MS), false)
  t.equal(revoked.add({ ...one, tokenId: 'old', expiresAtS: NOW_S - 100 }, NOW_MS), false)
  t.equal(revoked.version, version)
  t.equal(revoked.size, 2, 'one token, one tenant')
})

t.test('an entry goes after its token has expired, the clock tolerance included', async t => {
  const revoked = new RevokedTokens({ entriesMax: 1000 })
  revoked.add({ tenantId: ACME, tokenId: 'j', expiresAtS: NOW_S + 10 }, NOW_MS)
  revoked.sweep(NOW_MS + 45_000)
  t.equal(revoked.has(ACME, 'j', NOW_S, NOW_S + 10), true, 'it may still be accepted elsewhere')
  revoked.sweep(NOW_MS + 75_000)
  t.equal(revoked.has(ACME, 'j', NOW_S, NOW_S + 10), false)
  t.equal(revoked.size, 0)
})

t.test(
  'a flood in one tenant is bounded, lets no token back in, and disturbs no other',
  async t => {
    const folds: (number | 'all')[] = []
    const revoked = new RevokedTokens({ entriesMax: 1000, onFold: tenants => folds.push(tenants) })
    revoked.add({ tenantId: GLOBEX, tokenId: 'g', expiresAtS: NOW_S + 900 }, NOW_MS)
    let highest = 0
    for (let i = 0; i < 20_000; i++) {
      revoked.add({ tenantId: ACME, tokenId: `a${i}`, expiresAtS: NOW_S + 900 + i / 100 }, NOW_MS)
      highest = Math.max(highest, revoked.size)
    }
    t.ok(highest <= 1000, `${highest}`)
    t.ok(folds.length > 1 && folds.every(tenants => tenants === 1))
    for (let i = 0; i < 20_000; i++) {
      if (!revoked.has(ACME, `a${i}`, NOW_S, NOW_S + 900 + i / 100)) t.fail(`a${i} is back`)
    }
    t.equal(revoked.has(ACME, 'new', NOW_S + 1, NOW_S + 1200), false, 'a renewed token is served')
    t.equal(
      revoked.has(ACME, 'old', NOW_S - 800, NOW_S + 100),
      true,
      'an older one is to be renewed',
    )
    t.equal(revoked.has(ACME, 'later', NOW_S + 60, NOW_S + 100), false, 'issued after the flood')
    t.equal(revoked.has(GLOBEX, 'g', NOW_S, NOW_S + 900), true)
    t.equal(revoked.has(GLOBEX, 'h', NOW_S - 800, NOW_S + 100), false, 'nothing at the neighbour')
    revoked.sweep(NOW_MS + 1_300_000)
    t.equal(revoked.size, 0)
    t.equal(revoked.has(ACME, 'old', NOW_S - 800, NOW_S + 100), false, 'the floor goes in the end')
  },
)

t.test('more tenants than the bound has room for are refused together', async t => {
  const folds: (number | 'all')[] = []
  const revoked = new RevokedTokens({ entriesMax: 100, onFold: tenants => folds.push(tenants) })
  const tenants = Array.from({ length: 400 }, (_, i) => `tenant-${i}` as TenantId)
  for (const tenantId of tenants) {
    revoked.add({ tenantId, tokenId: 'j', expiresAtS: NOW_S + 900 }, NOW_MS)
    t.ok(revoked.size <= 100)
  }
  t.ok(folds.includes('all'))
  for (const tenant of tenants) t.ok(revoked.has(tenant, 'j', NOW_S, NOW_S + 900))
  t.equal(revoked.has(ACME, 'j', NOW_S + 60, NOW_S + 901), false)
})

t.test('property: within the bound at all times, and no revoked token ever passes', async () => {
  const token = fc.record({
    tenant: fc.nat(3),
    id: fc.nat(30),
    issuedAgoS: fc.integer({ min: -30, max: 900 }),
    lifeS: fc.integer({ min: 1, max: 1800 }),
  })
  const step = fc.oneof(
    { weight: 8, arbitrary: fc.record({ do: fc.constant('revoke' as const), token }) },
    { weight: 1, arbitrary: fc.record({ do: fc.constant('wait' as const), s: fc.nat(600) }) },
    { weight: 1, arbitrary: fc.record({ do: fc.constant('sweep' as const) }) },
  )
  fc.assert(
    fc.property(
      fc.array(step, { maxLength: 120 }),
      fc.integer({ min: 1, max: 40 }),
      (steps, max) => {
        let nowS = NOW_S
        const revoked = new RevokedTokens({ entriesMax: max })
        /** All that was ever revoked, with the version at which it was last seen to pass. */
        const all = new Map<string, { tenant: TenantId; id: string; iat: number; exp: number }>()
        for (const one of steps) {
          if (one.do === 'wait') nowS += one.s
          else if (one.do === 'sweep') revoked.sweep(nowS * 1000)
          else {
            const { tenant: at, id, issuedAgoS, lifeS } = one.token
            const tenant = `tenant-${at}` as TenantId
            const key = `${tenant} ${id}`
            const iat = nowS - issuedAgoS
            // A jti stands for one token: its times do not change.
            const known = all.get(key) ?? { tenant, id: `j${id}`, iat, exp: iat + lifeS }
            const before = revoked.has(tenant, known.id, known.iat, known.exp)
            const { version } = revoked
            revoked.add({ tenantId: tenant, tokenId: known.id, expiresAtS: known.exp }, nowS * 1000)
            const after = revoked.has(tenant, known.id, known.iat, known.exp)
            if (!before && after && revoked.version === version) throw new Error('not told')
            all.set(key, known)
          }
          if (revoked.size > max) throw new Error(`${revoked.size} above ${max}`)
          for (const { tenant, id, iat, exp } of all.values()) {
            const isAlive = exp > nowS - 30
            if (isAlive && !revoked.has(tenant, id, iat, exp)) throw new Error(`${id} passes`)
          }
        }
      },
    ),
    { numRuns: 300 },
  )
})
