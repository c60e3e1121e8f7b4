import { text } from 'node:stream/consumers'
import { makeLog } from '../lib/log.ts'
import { RegistryStore } from '../store.ts'
import { type ListQuery, listTenants, type SortOrder } from './list.ts'

/*
 * What a page of tenants costs: `npm run bench -- registry` runs this file in a process of its own and hands it the Registry's
 * URL on standard input, for it holds a password. Prints one line of JSON: milliseconds by kind of question, each over a
 * whole call of the admin service, count of all pages included.
 */
const CALLS = 300
const WARM_UP = 30
const LIMIT = 50
const PAGES_SEEN = 20

const url = (await text(process.stdin)).trim()
const store = new RegistryStore({
  url,
  log: makeLog('list-cost', 'silent'),
  poolMax: 1,
  queryTimeoutMs: 30_000,
})
try {
  const ask = (query: Partial<ListQuery>) =>
    listTenants({ store }, { sort: 'tenant_key', limit: LIMIT, ...query })
  const { total } = await ask({})
  const pages = Math.max(1, Math.floor(total / LIMIT))
  const sorts: readonly SortOrder[] = ['name', '-created_at', '-updated_at', 'status']
  const kinds: Readonly<Record<string, (i: number) => Promise<unknown>>> = {
    'first page': () => ask({}),
    'any page': i => ask({ page: 1 + ((i * 7919) % pages) }),
    'last page': () => ask({ page: pages }),
    'by filter': i => ask({ mode: 'shared', status: i % 2 === 0 ? 'active' : 'suspended' }),
    'by sort': i => ask({ sort: sorts[i % sorts.length] as SortOrder }),
    'search, few found': i => ask({ q: `nant-${i % total}` }),
    'search, many found': () => ask({ q: 'TENANT' }),
    'search, none found': i => ask({ q: `no-such-${i}` }),
    'next page by cursor': await walk(ask),
  }
  const cost: Record<string, { p50: number; p99: number }> = {}
  for (const [name, call] of Object.entries(kinds)) cost[name] = await measure(call)
  process.stdout.write(`${JSON.stringify({ total, cost })}\n`)
} finally {
  await store.close()
}

/** Pages one after the other, and again from the first. */
async function walk(ask: (query: Partial<ListQuery>) => ReturnType<typeof listTenants>) {
  const cursors: string[] = []
  let cursor: string | null = null
  while (cursors.length < PAGES_SEEN) {
    const page = await ask(cursor === null ? {} : { cursor })
    cursor = page.next_cursor
    if (cursor === null) break
    cursors.push(cursor)
  }
  return (i: number) => ask({ cursor: cursors[i % cursors.length] })
}

async function measure(call: (i: number) => Promise<unknown>) {
  const tookMs: number[] = []
  for (let i = 0; i < WARM_UP + CALLS; i++) {
    const startedAt = performance.now()
    await call(i)
    if (i >= WARM_UP) tookMs.push(performance.now() - startedAt)
  }
  tookMs.sort((a, b) => a - b)
  const at = (quantile: number) => tookMs[Math.ceil(quantile * tookMs.length) - 1] as number
  return { p50: at(0.5), p99: at(0.99) }
}
