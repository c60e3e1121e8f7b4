import fc from 'fast-check'
import t from 'tap'
import { TenantCache, type TenantCacheOptions } from './cache.ts'
import { Fault } from './lib/errors.ts'
import {
  type Issuer,
  parseTenantId,
  type Tenant,
  type TenantId,
  type TenantKey,
  type TenantQuery,
} from './tenant.ts'
import type { ChangeOp } from './tenant-changes.ts'
import { newTenant, silent } from './test-kit.ts'

const ID_A = idOf(0xa)
const ID_B = idOf(0xb)

function idOf(n: number): TenantId {
  return parseTenantId(`00000000-0000-4000-8000-${n.toString(16).padStart(12, '0')}`) as TenantId
}

function tenantOf(id: TenantId, key: string, version: number, over: Partial<Tenant> = {}): Tenant {
  const at = new Date(0)
  return {
    ...newTenant({ id, key: key as TenantKey }),
    configVersion: version,
    appUrl: null,
    plan: null,
    limits: {},
    tokensValidAfterMs: null,
    tokenIssuer: null,
    schemaVersion: null,
    debugUntilMs: 0,
    createdAt: at,
    updatedAt: at,
    ...over,
  }
}

const byId = (id: TenantId): TenantQuery => ({ by: 'id', id })
const byKey = (key: string): TenantQuery => ({ by: 'key', key: key as TenantKey })
const byIssuer = (issuer: string): TenantQuery => ({ by: 'issuer', issuer: issuer as Issuer })
const withIssuer = (issuer: string) => ({
  tokenIssuer: { issuer: issuer as Issuer, jwksUrl: 'https://id.example/keys', audience: 'api' },
})
const down = () => new Fault('REGISTRY_UNAVAILABLE', 'down')

/** A cache whose clock and whose look-ups the test moves by hand. */
function setUp(options: Partial<TenantCacheOptions> = {}) {
  const world = {
    nowMs: 1_000_000,
    rows: new Map<TenantId, Tenant>(),
    isDown: false,
    loads: 0,
    /** When set, look-ups read their row at once but deliver it only when `release` is called. */
    isHeld: false,
    held: [] as (() => void)[],
    put(tenant: Tenant) {
      world.rows.set(tenant.id, tenant)
    },
    release() {
      for (const deliver of world.held.splice(0)) deliver()
    },
  }
  const read = (ref: TenantQuery) => {
    if (ref.by === 'id') return world.rows.get(ref.id) ?? null
    const isIt = (row: Tenant) =>
      ref.by === 'key' ? row.key === ref.key : row.tokenIssuer?.issuer === ref.issuer
    return [...world.rows.values()].find(isIt) ?? null
  }
  const cache = new TenantCache({
    load: async ref => {
      world.loads += 1
      if (world.isDown) throw down()
      const row = read(ref)
      if (world.isHeld) await new Promise<void>(resolve => world.held.push(resolve))
      return row
    },
    log: silent,
    now: () => world.nowMs,
    ...options,
  })
  const notify = (tenant: Tenant, op: ChangeOp = 'update', version = tenant.configVersion) =>
    cache.invalidate({ id: tenant.id, key: tenant.key, version, op })
  return { world, cache, notify }
}

const turn = () => new Promise<void>(resolve => setImmediate(resolve))

t.test('one entry per tenant answers by id and by key, from memory', async t => {
  const { world, cache } = setUp()
  const tenant = tenantOf(ID_A, 'a', 1)
  world.put(tenant)
  t.equal(cache.peek(byId(ID_A)), undefined)
  t.equal(await cache.get(byKey('a')), tenant)
  t.equal(cache.peek(byId(ID_A)), tenant)
  t.equal(cache.peek(byKey('a')), tenant)
  t.equal(await cache.get(byId(ID_A)), tenant)
  t.equal(world.loads, 1)
  t.equal(cache.size, 1)
})

t.test('a tenant is known by its own issuer, and only for as long as it has it', async t => {
  const { world, cache, notify } = setUp()
  const first = tenantOf(ID_A, 'a', 1, withIssuer('one'))
  world.put(first)
  t.equal(await cache.get(byId(ID_A)), first)
  t.equal(cache.peek(byIssuer('one')), first)
  t.equal(await cache.get(byIssuer('two')), null)
  const second = tenantOf(ID_A, 'a', 2, withIssuer('two'))
  world.put(second)
  notify(second)
  t.equal(cache.peek(byIssuer('one')), undefined)
  t.equal(cache.peek(byIssuer('two')), undefined, 'the notice ends that it counted as unknown')
  t.equal(await cache.get(byIssuer('two')), second)
  t.equal(await cache.get(byIssuer('one')), null)
  const none = tenantOf(ID_A, 'a', 3)
  world.put(none)
  notify(none)
  t.equal(await cache.get(byIssuer('two')), null)
  t.equal(await cache.get(byId(ID_A)), none)
})

t.test('an issuer that moved to another tenant names that one alone', async t => {
  const { world, cache } = setUp()
  world.put(tenantOf(ID_A, 'a', 1, withIssuer('one')))
  await cache.get(byIssuer('one'))
  world.put(tenantOf(ID_A, 'a', 2))
  world.put(tenantOf(ID_B, 'b', 3, withIssuer('one')))
  // No notice came: B is read for another reason.
  await cache.get(byId(ID_B))
  t.equal(cache.peek(byIssuer('one'))?.id, ID_B)
  t.equal(cache.peek(byId(ID_A)), undefined, 'what is known of A is known to be old')
})

t.test('unknown issuers cost one look-up in 5 s each, and few at a time', async t => {
  const { world, cache } = setUp()
  for (let i = 0; i < 10; i++) t.equal(await cache.get(byIssuer('made-up')), null)
  t.equal(world.loads, 1)
  world.isHeld = true
  const flood = Array.from({ length: 500 }, (_, i) =>
    cache.get(byIssuer(`flood-${i}`)).catch((error: Fault) => error.code),
  )
  await turn()
  t.equal(world.held.length, 16)
  world.put(tenantOf(ID_B, 'b', 1))
  const other = cache.get(byId(ID_B))
  await turn()
  t.equal(world.held.length, 17, 'others are looked up meanwhile')
  world.isHeld = false
  world.release()
  t.equal((await other)?.id, ID_B)
  const outcomes = await Promise.all(flood)
  t.equal(outcomes.filter(outcome => outcome === null).length, 16)
  t.equal(outcomes.filter(outcome => outcome === 'REGISTRY_UNAVAILABLE').length, 484)
  for (let i = 0; i < 6000; i++) await cache.get(byIssuer(`more-${i}`))
  t.ok(cache.absentSize <= 4096, `${cache.absentSize} are remembered`)
})

t.test('an issuer that was set while it was looked up is not taken for unknown', async t => {
  const { world, cache, notify } = setUp()
  world.isHeld = true
  const early = cache.get(byIssuer('one'))
  await turn()
  const tenant = tenantOf(ID_A, 'a', 1, withIssuer('one'))
  world.put(tenant)
  notify(tenant)
  world.isHeld = false
  world.release()
  t.equal(await early, null)
  t.equal(cache.peek(byIssuer('one')), undefined)
  t.equal(await cache.get(byIssuer('one')), tenant)
})

t.test('freshness ends after 60 s, or 5 min while watched', async t => {
  const { world, cache } = setUp()
  world.put(tenantOf(ID_A, 'a', 1))
  await cache.get(byId(ID_A))
  world.nowMs += 59_999
  t.ok(cache.peek(byId(ID_A)))
  world.nowMs += 1
  t.equal(cache.peek(byId(ID_A)), undefined)
  cache.isWatched = true
  t.ok(cache.peek(byId(ID_A)))
  world.nowMs += 239_999
  t.ok(cache.peek(byId(ID_A)))
  world.nowMs += 1
  t.equal(cache.peek(byId(ID_A)), undefined)
  cache.isWatched = false
  await cache.get(byId(ID_A))
  t.equal(world.loads, 2)
})

t.test('a tenant that is not active is known as such and is never served stale', async t => {
  const { world, cache } = setUp()
  world.put(tenantOf(ID_A, 'a', 1, { status: 'suspended' }))
  t.equal((await cache.get(byId(ID_A)))?.status, 'suspended')
  t.equal(cache.peek(byId(ID_A))?.status, 'suspended')
  world.nowMs += 60_000
  world.isDown = true
  await t.rejects(cache.get(byId(ID_A)), { code: 'REGISTRY_UNAVAILABLE' })
})

t.test('an absent tenant is asked for once per 5 s, and an insert ends that at once', async t => {
  const { world, cache, notify } = setUp()
  t.equal(await cache.get(byKey('a')), null)
  t.equal(await cache.get(byId(ID_A)), null)
  t.equal(cache.peek(byKey('a')), null)
  t.equal(world.loads, 2)
  world.nowMs += 5_000
  t.equal(cache.peek(byKey('a')), undefined)
  await cache.get(byKey('a'))
  const tenant = tenantOf(ID_A, 'a', 1)
  world.put(tenant)
  notify(tenant, 'insert')
  t.equal(cache.peek(byKey('a')), undefined)
  t.equal(cache.peek(byId(ID_A)), undefined)
  t.equal(await cache.get(byKey('a')), tenant)
})

t.test('random keys and ids push no tenant out, and are bounded', async t => {
  const { world, cache } = setUp({ entriesMax: 4 })
  world.put(tenantOf(ID_A, 'a', 1))
  await cache.get(byId(ID_A))
  for (let i = 0; i < 5000; i++) {
    await cache.get(byKey(`random-${i}`))
    await cache.get(byId(idOf(0x1000 + i)))
  }
  t.ok(cache.peek(byId(ID_A)))
  t.equal(cache.absentSize, 2 * 4096)
})

t.test('the number of entries is bounded, and so is the index of keys', async t => {
  const { world, cache } = setUp({ entriesMax: 8 })
  for (let i = 0; i < 100; i++) {
    world.put(tenantOf(idOf(i), `k${i}`, 1))
    await cache.get(byKey(`k${i}`))
  }
  t.equal(cache.size, 8)
  t.equal(cache.peek(byKey('k0')), undefined)
  t.ok(cache.peek(byKey('k99')))
})

t.test('callers of one tenant share one look-up', async t => {
  const { world, cache } = setUp()
  world.put(tenantOf(ID_A, 'a', 1))
  world.isHeld = true
  const callers = Array.from({ length: 50 }, () => cache.get(byId(ID_A)))
  await turn()
  t.equal(world.loads, 1)
  world.release()
  t.equal(new Set(await Promise.all(callers)).size, 1)
  world.isHeld = false
  world.isDown = true
  const failing = Array.from({ length: 5 }, () => cache.get(byId(ID_B)).catch(e => e.code))
  t.strictSame(new Set(await Promise.all(failing)), new Set(['REGISTRY_UNAVAILABLE']))
  t.equal(world.loads, 2)
  world.isDown = false
  t.equal(await cache.get(byId(ID_B)), null, 'a failure is not kept')
})

t.test(
  'Registry down: an active tenant is served for 5 min from its last read, no longer',
  async t => {
    const { world, cache } = setUp()
    const tenant = tenantOf(ID_A, 'a', 1)
    world.put(tenant)
    await cache.get(byId(ID_A))
    world.isDown = true
    world.nowMs += 60_000
    t.equal(await cache.get(byId(ID_A)), tenant)
    t.equal(world.loads, 2)
    t.equal(cache.peek(byKey('a')), tenant, 'others do not wait for the dead Registry')
    t.equal(world.loads, 2)
    world.nowMs += 1_000
    t.equal(cache.peek(byId(ID_A)), undefined, 'after a second one asks again')
    t.equal(await cache.get(byId(ID_A)), tenant)
    world.nowMs = 1_000_000 + 299_999
    t.equal(await cache.get(byKey('a')), tenant)
    world.nowMs += 1
    t.equal(cache.peek(byId(ID_A)), undefined)
    await t.rejects(cache.get(byId(ID_A)), { code: 'REGISTRY_UNAVAILABLE' })
    await t.rejects(cache.get(byId(ID_B)), { code: 'REGISTRY_UNAVAILABLE' })
    world.isDown = false
    t.equal(await cache.get(byId(ID_A)), tenant)
  },
)

t.test('a row that is not fit is the error of its tenant, stale or not', async t => {
  let isBroken = false
  const tenant = tenantOf(ID_A, 'a', 1)
  const { cache, world } = setUp({
    load: async () => {
      if (isBroken) throw new Fault('TENANT_CONFIG_INVALID', 'db_host')
      return tenant
    },
  })
  await cache.get(byId(ID_A))
  isBroken = true
  world.nowMs += 60_000
  await t.rejects(cache.get(byId(ID_A)), { code: 'TENANT_CONFIG_INVALID' })
})

t.test(
  'a notice makes an entry unknown, even as a stale one; an old notice does nothing',
  async t => {
    const { world, cache, notify } = setUp()
    const tenant = tenantOf(ID_A, 'a', 5)
    world.put(tenant)
    await cache.get(byId(ID_A))
    notify(tenant, 'update', 5)
    notify(tenant, 'update', 3)
    t.equal(cache.peek(byId(ID_A)), tenant)
    notify(tenant, 'update', 6)
    t.equal(cache.peek(byId(ID_A)), undefined)
    world.isDown = true
    await t.rejects(cache.get(byId(ID_A)), { code: 'REGISTRY_UNAVAILABLE' })
  },
)

t.test('a notice during a look-up wins: the older row is neither kept nor given out', async t => {
  const { world, cache, notify } = setUp()
  world.put(tenantOf(ID_A, 'a', 1))
  world.isHeld = true
  const waiting = cache.get(byId(ID_A))
  const byItsKey = cache.get(byKey('a'))
  await turn()
  const suspended = tenantOf(ID_A, 'a', 2, { status: 'suspended' })
  world.put(suspended)
  notify(suspended)
  world.isHeld = false
  world.release()
  t.equal(await waiting, suspended)
  t.equal(await byItsKey, suspended)
  t.equal(cache.peek(byId(ID_A)), suspended)
})

t.test('a delete during a look-up wins; an insert during one that found nothing, too', async t => {
  const { world, cache, notify } = setUp()
  const tenant = tenantOf(ID_A, 'a', 1)
  world.put(tenant)
  world.isHeld = true
  const deleted = cache.get(byId(ID_A))
  const inserted = [cache.get(byId(ID_B)), cache.get(byKey('b'))]
  await turn()
  world.rows.delete(ID_A)
  notify(tenant, 'delete', 2)
  const fresh = tenantOf(ID_B, 'b', 3)
  world.put(fresh)
  notify(fresh, 'insert')
  world.isHeld = false
  world.release()
  t.equal(await deleted, null)
  t.equal(cache.peek(byId(ID_A)), null)
  t.strictSame(await Promise.all(inserted), [fresh, fresh])
})

t.test('a delete removes the entry, by id and by key', async t => {
  const { world, cache, notify } = setUp()
  const tenant = tenantOf(ID_A, 'a', 1)
  world.put(tenant)
  await cache.get(byId(ID_A))
  world.rows.delete(ID_A)
  notify(tenant, 'delete', 2)
  t.equal(cache.peek(byKey('a')), undefined)
  t.equal(await cache.get(byKey('a')), null)
  t.equal(cache.size, 0)
})

t.test('a renamed tenant is found by its new key alone; a key may pass to another', async t => {
  const { world, cache, notify } = setUp()
  world.put(tenantOf(ID_A, 'a', 1))
  await cache.get(byKey('a'))
  t.equal(await cache.get(byKey('b')), null)
  const renamed = tenantOf(ID_A, 'b', 2)
  world.put(renamed)
  notify(renamed)
  t.equal(await cache.get(byKey('b')), renamed)
  t.equal(await cache.get(byKey('a')), null)
  const heir = tenantOf(ID_B, 'a', 3)
  world.put(heir)
  notify(heir, 'insert')
  t.equal(await cache.get(byKey('a')), heir)
  t.equal(cache.peek(byId(ID_A)), renamed)

  const quiet = setUp()
  quiet.world.put(tenantOf(ID_A, 'a', 1))
  await quiet.cache.get(byId(ID_A))
  quiet.world.put(tenantOf(ID_A, 'b', 2))
  quiet.world.nowMs += 60_000
  await quiet.cache.get(byId(ID_A))
  t.equal(quiet.cache.peek(byKey('a')), undefined, 'a rename found by a refresh alone')
  t.equal(quiet.cache.peek(byKey('b'))?.configVersion, 2)
})

t.test('a look-up that read earlier does not overwrite a newer row', async t => {
  const { world, cache } = setUp()
  world.put(tenantOf(ID_A, 'a', 1))
  world.isHeld = true
  const early = cache.get(byId(ID_A))
  await turn()
  const earlyDelivery = world.held.splice(0)
  world.put(tenantOf(ID_A, 'a', 2))
  const later = cache.get(byKey('a'))
  await turn()
  world.release()
  t.equal((await later)?.configVersion, 2)
  for (const deliver of earlyDelivery) deliver()
  t.equal((await early)?.configVersion, 2)
  t.equal(cache.peek(byId(ID_A))?.configVersion, 2)
})

t.test(
  'after a gap everything is read again; with the Registry down it is served stale',
  async t => {
    const { world, cache } = setUp()
    const tenant = tenantOf(ID_A, 'a', 7)
    world.put(tenant)
    await cache.get(byId(ID_A))
    await cache.get(byKey('none'))
    cache.suspectAll()
    t.equal(cache.peek(byId(ID_A)), undefined)
    t.equal(cache.peek(byKey('none')), undefined)
    world.isDown = true
    t.equal(await cache.get(byId(ID_A)), tenant)
    world.isDown = false
    world.nowMs += 1000
    // A promoted standby may have lost the latest writes: what it says now is the truth.
    const older = tenantOf(ID_A, 'a', 6)
    world.put(older)
    t.equal(await cache.get(byId(ID_A)), older)
    t.equal(cache.peek(byId(ID_A)), older)
  },
)

t.test('a gap during a look-up repeats it', async t => {
  const { world, cache } = setUp()
  world.put(tenantOf(ID_A, 'a', 1))
  world.isHeld = true
  const waiting = cache.get(byId(ID_A))
  await turn()
  world.put(tenantOf(ID_A, 'a', 2))
  cache.suspectAll()
  world.isHeld = false
  world.release()
  t.equal((await waiting)?.configVersion, 2)
})

t.test('a flood of notices during a look-up cannot hide the one that matters', async t => {
  const { world, cache, notify } = setUp()
  world.put(tenantOf(ID_A, 'a', 1))
  world.isHeld = true
  const waiting = cache.get(byId(ID_A))
  await turn()
  const changed = tenantOf(ID_A, 'a', 2)
  world.put(changed)
  notify(changed)
  for (let i = 0; i < 3000; i++) notify(tenantOf(idOf(0x9000 + i), `n${i}`, 100 + i))
  world.isHeld = false
  world.release()
  t.equal(await waiting, changed)
})

t.test('a tenant that changes during every read is an error, not an endless loop', async t => {
  let version = 1
  const { cache, notify } = setUp({
    load: async () => {
      const row = tenantOf(ID_A, 'a', version)
      version += 1
      notify(tenantOf(ID_A, 'a', version))
      return row
    },
  })
  await t.rejects(cache.get(byId(ID_A)), { code: 'REGISTRY_UNAVAILABLE' })
})

t.test('look-ups under way are bounded', async t => {
  const { world, cache } = setUp()
  world.isHeld = true
  const flights = Array.from({ length: 1024 }, (_, i) => cache.get(byId(idOf(i))))
  await turn()
  await t.rejects(cache.get(byId(idOf(5000))), { code: 'REGISTRY_UNAVAILABLE' })
  world.isHeld = false
  world.release()
  await Promise.all(flights)
  t.equal(await cache.get(byId(idOf(5000))), null)
})

/**
 * Whatever the order of writes, notices, reads and deliveries: an answer is never older than what was
 * announced before it was asked for, versions never go back, and once all is delivered the cache
 * agrees with the Registry.
 */
t.test('property: no interleaving makes the cache forget a notice', async t => {
  const step = fc.oneof(
    fc.record({ do: fc.constant('write' as const), who: fc.nat(1), key: fc.nat(2) }),
    fc.record({ do: fc.constant('delete' as const), who: fc.nat(1) }),
    fc.record({ do: fc.constant('notify' as const) }),
    fc.record({ do: fc.constant('getId' as const), who: fc.nat(1) }),
    fc.record({ do: fc.constant('getKey' as const), key: fc.nat(2) }),
    fc.record({ do: fc.constant('deliver' as const), which: fc.nat(5) }),
    fc.record({ do: fc.constant('gap' as const) }),
    fc.record({ do: fc.constant('wait' as const), ms: fc.nat(70_000) }),
  )
  const property = fc.asyncProperty(fc.array(step, { maxLength: 40 }), async steps => {
    const { world, cache } = setUp()
    const ids = [ID_A, ID_B]
    let version = 0
    const pending: { id: TenantId; key: string; version: number; op: ChangeOp }[] = []
    const announced = new Map<TenantId, number>()
    const answers: Promise<void>[] = []
    world.isHeld = true
    const ask = (ref: TenantQuery) => {
      const floor = new Map(announced)
      answers.push(
        cache.get(ref).then(
          tenant => {
            if (tenant && tenant.configVersion < (floor.get(tenant.id) ?? 0)) {
              throw new Error(`answer ${tenant.configVersion} is older than announced`)
            }
          },
          error => {
            if (!(error instanceof Fault)) throw error
          },
        ),
      )
    }
    const announce = () => {
      const change = pending.shift()
      if (change === undefined) return
      cache.invalidate(change)
      announced.set(change.id, change.version)
    }
    for (const s of steps) {
      if (s.do === 'write') {
        const id = ids[s.who] as TenantId
        const key = `k${s.key}`
        const holder = [...world.rows.values()].find(row => row.key === key)
        if (holder !== undefined && holder.id !== id) continue
        version += 1
        world.put(tenantOf(id, key, version))
        pending.push({ id, key, version, op: 'update' })
      } else if (s.do === 'delete') {
        const row = world.rows.get(ids[s.who] as TenantId)
        if (row === undefined) continue
        version += 1
        world.rows.delete(row.id)
        pending.push({ id: row.id, key: row.key, version, op: 'delete' })
      } else if (s.do === 'notify') announce()
      else if (s.do === 'getId') ask(byId(ids[s.who] as TenantId))
      else if (s.do === 'getKey') ask(byKey(`k${s.key}`))
      else if (s.do === 'deliver') world.held.splice(s.which, 1)[0]?.()
      else if (s.do === 'gap') cache.suspectAll()
      else world.nowMs += s.ms
      await turn()
    }
    while (pending.length > 0) announce()
    world.isHeld = false
    while (world.held.length > 0) {
      world.release()
      await turn()
    }
    await Promise.all(answers)
    for (const id of ids) {
      const known = await cache.get(byId(id))
      const truth = world.rows.get(id) ?? null
      if (known?.configVersion !== truth?.configVersion) throw new Error('disagrees by id')
    }
    for (const key of ['k0', 'k1', 'k2']) {
      const known = await cache.get(byKey(key))
      const truth = [...world.rows.values()].find(row => row.key === key) ?? null
      if (known?.id !== truth?.id) throw new Error(`disagrees by key ${key}`)
    }
  })
  await fc.assert(property, { numRuns: 400, seed: 20_261_123 })
  t.pass('no counterexample')
})
