import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { withDeadline } from '../lib/deadline.ts'
import { closePg, connectPg, parsePgUrl } from '../lib/pg.ts'
import { type Finding, fail, ok, type Patient, some, warn } from './finding.ts'

const MIGRATIONS = join(import.meta.dirname, '../../migrations/registry')
const LISTEN_MS = 1000
/** Contexts and tokens are off by 30 s at most; well before that somebody should look. */
const SKEW_WARN_MS = 2000
const SKEW_FAIL_MS = 15_000

const ABOUT = `SELECT extract(epoch FROM clock_timestamp()) * 1000 AS now_ms,
  current_setting('server_version') AS version`
const APPLIED = 'SELECT name FROM doorman_migrations'
const TRIGGERS = `
  SELECT c.relname || '.' || t.tgname AS name FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
  WHERE NOT t.tgisinternal AND t.tgenabled IN ('O', 'A')
    AND c.relnamespace = (SELECT relnamespace FROM pg_class WHERE oid = to_regclass('tenants'))`

/** Reachable, and on the same time. */
export async function checkReach({ deps }: Patient): Promise<readonly Finding[]> {
  const startedAt = Date.now()
  const [row] = await deps.store.query(ABOUT, [])
  const tookMs = Date.now() - startedAt
  const skewMs = Math.round(Number(row?.now_ms) - (startedAt + tookMs / 2))
  const reached = ok('registry', `PostgreSQL ${row?.version} answers in ${tookMs} ms`)
  const text = `the clock of the Registry is ${skewMs} ms off ours`
  // Half the round trip may be on either side.
  const offMs = Math.abs(skewMs) - tookMs / 2
  const todo = 'keep all clocks by NTP: contexts and tokens are refused beyond 30 s'
  if (offMs > SKEW_FAIL_MS) return [reached, fail('clock', text, todo)]
  return [reached, offMs > SKEW_WARN_MS ? warn('clock', text, todo) : ok('clock', text)]
}

export async function checkMigrations({ deps }: Patient): Promise<readonly Finding[]> {
  const names = (await readdir(MIGRATIONS)).filter(name => name.endsWith('.sql')).sort()
  const [found] = await deps.store.query(
    `SELECT to_regclass('doorman_migrations') IS NOT NULL AS is_there`,
    [],
  )
  const rows = found?.is_there ? await deps.store.query(APPLIED, []) : []
  const applied = new Set(rows.map(row => String(row.name)))
  const missing = names.filter(name => !applied.has(name))
  const todo = 'npm run db:registry-migrate'
  if (missing.length > 0) {
    return [fail('migrations', `not applied: ${some(missing)}`, todo)]
  }
  const newer = [...applied].filter(name => !names.includes(name))
  if (newer.length === 0) return [ok('migrations', `all ${names.length} are applied`)]
  const text = `the Registry has some that this release does not know: ${some(newer)}`
  return [warn('migrations', text, 'run the release that the Registry was migrated by')]
}

/** Without one of them changes are not seen, or not told. */
export async function checkTriggers({ deps }: Patient): Promise<readonly Finding[]> {
  const wanted = await wantedTriggers()
  const rows = await deps.store.query(TRIGGERS, [])
  const there = new Set(rows.map(({ name }) => String(name)))
  const missing = wanted.filter(name => !there.has(name))
  if (missing.length === 0) return [ok('triggers', `all ${wanted.length} are there and enabled`)]
  return [
    fail(
      'triggers',
      `missing or disabled: ${some(missing)}`,
      'ALTER TABLE … ENABLE TRIGGER, or make it again as in migrations/registry',
    ),
  ]
}

/** The way that a change takes to the gateways. */
export async function checkListener({ around }: Patient): Promise<readonly Finding[]> {
  const target = parsePgUrl(around.registryUrl, around.registryCa)
  const limits = {
    connectTimeoutMs: 3000,
    statementTimeoutMs: 3000,
    applicationName: 'doorman-doctor',
  }
  const channel = `doorman_doctor_${process.pid}`
  const listener = await connectPg(target, limits)
  try {
    const sender = await connectPg(target, limits)
    try {
      const heard = new Promise<number>(resolve => {
        listener.on('notification', () => resolve(performance.now()))
      })
      await listener.query(`LISTEN ${channel}`)
      const sentAt = performance.now()
      await sender.query('SELECT pg_notify($1, $2)', [channel, ''])
      const heardAt = await withDeadline(heard, LISTEN_MS, () => new Error('late'))
      return [ok('listener', `a notice arrives in ${Math.round(heardAt - sentAt)} ms`)]
    } finally {
      await closePg(sender)
    }
  } catch (error) {
    const { message } = error as Error
    const text =
      message === 'late' ? `no notice within ${LISTEN_MS} ms` : `LISTEN does not work: ${message}`
    const todo =
      'let TENANT_REGISTRY_DB_URL lead to PostgreSQL itself: LISTEN needs a session, which a transaction pooler takes away'
    return [fail('listener', text, todo)]
  } finally {
    await closePg(listener)
  }
}

/** As the migrations make them, so that a new one is looked for as well. */
async function wantedTriggers(): Promise<readonly string[]> {
  const names = new Set<string>()
  for (const file of (await readdir(MIGRATIONS)).sort()) {
    if (!file.endsWith('.sql')) continue
    const sql = (await readFile(join(MIGRATIONS, file), 'utf8')).replace(/--.*$/gm, '')
    for (const [, drop, trigger, table] of sql.matchAll(
      /\b(CREATE|DROP) (?:OR REPLACE )?TRIGGER (?:IF EXISTS )?(\w+)\b[^;]*? ON (\w+)/g,
    )) {
      if (drop === 'DROP') names.delete(`${table}.${trigger}`)
      else names.add(`${table}.${trigger}`)
    }
  }
  return [...names]
}
