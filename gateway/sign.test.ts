import { randomBytes } from 'node:crypto'
import t from 'tap'
import { Keyring } from '../registry/envelope.ts'
import { HmacSha256 } from '../registry/lib/hmac.ts'
import type { Tenant } from '../registry/tenant.ts'
import { newTenant } from '../registry/test-kit.ts'
import { ContextHolder } from './sign.ts'

const NOW_MS = 1_800_000_000_000
const keyring = await Keyring.derive([randomBytes(32).toString('hex')])

function tenantOf(version: number): Tenant {
  const tenant = {
    ...newTenant({ key: 'acme' as never }),
    configVersion: version,
  } as unknown as Tenant
  const place = { owner: tenant.id, column: 'db_password_encrypted' } as const
  return { ...tenant, db: { ...tenant.db, passwordEncrypted: keyring.encrypt('p', place) } }
}

/** Counts what is minted; the real minter has tests of its own. */
function holderOf() {
  const minted: number[] = []
  const minter = {
    async mint({ configVersion }: Tenant, _: unknown, nowMs: number) {
      minted.push(configVersion)
      const mac = new HmacSha256(randomBytes(32))
      return { token: `${configVersion}-${minted.length}`, mac, expiresAtMs: nowMs + 60_000 }
    },
  }
  return { minted, holder: new ContextHolder(minter, keyring, 10, ({ db }) => db.poolMax) }
}

t.test('requests at one time share one minting', async t => {
  const { minted, holder } = holderOf()
  const tenant = tenantOf(1)
  t.equal(holder.peek(tenant, NOW_MS), undefined)
  const contexts = await Promise.all([1, 2, 3].map(() => holder.get(tenant, NOW_MS)))
  t.equal(new Set(contexts).size, 1)
  t.equal(minted.length, 1)
  t.equal(holder.peek(tenant, NOW_MS), contexts[0])
})

t.test('a context is renewed beside its use, and never used in its last 30 s', async t => {
  const { minted, holder } = holderOf()
  const tenant = tenantOf(1)
  const first = await holder.get(tenant, NOW_MS)
  t.equal(holder.peek(tenant, NOW_MS + 14_999), first)
  t.equal(minted.length, 1, 'not before 45 s are left')
  t.equal(holder.peek(tenant, NOW_MS + 29_999), first, 'the old one serves meanwhile')
  t.equal(minted.length, 2)
  await holder.get(tenant, NOW_MS + 29_999)
  t.not(holder.peek(tenant, NOW_MS + 30_000), first)
  t.equal(holder.peek(tenant, NOW_MS + 29_999 + 30_000), undefined)
})

t.test('a newer version of the tenant is never served with an older context', async t => {
  const { holder } = holderOf()
  const old = tenantOf(1)
  const now = { ...old, configVersion: 2 }
  const slow = holder.get(old, NOW_MS)
  const fresh = await holder.get(now, NOW_MS)
  await slow
  t.equal(holder.peek(now, NOW_MS), fresh)
  t.equal(holder.peek(old, NOW_MS), undefined)
})
