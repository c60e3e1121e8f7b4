import type { Client } from 'pg'
import type { Actor } from '../admin/actor.ts'
import { addAudit } from '../admin/audit.ts'
import { stale, tellAudit } from '../admin/change.ts'
import { readRow, updateRow, versionOf } from '../admin/row.ts'
import { openConnections } from '../connection.ts'
import { publicFault } from '../lib/errors.ts'
import { closePg } from '../lib/pg.ts'
import type { Tenant, TenantId } from '../tenant.ts'
import type { BeginDeps } from './begin.ts'
import { ensureBucket } from './bucket.ts'
import { ensureFirstUser } from './first-user.ts'
import { connectAdmin, findHost } from './hosts.ts'
import type { ProvisionRun } from './runs.ts'
import { ensureDatabase, ensureRole } from './server-objects.ts'
import { type StepName, stepsOf } from './spec.ts'
import type { Taken } from './take.ts'
import { atWork, requireGoing } from './work.ts'

export interface ProvisionDeps extends BeginDeps {
  /** Brings the tenant's database to this release's schema. @throws Error that says why not */
  readonly migrate: (tenantId: TenantId, signal: AbortSignal) => Promise<void>
  /** Told at the begin of each step. */
  readonly onStep: (step: StepName) => void
}

/** How often a change of the row by someone else is met with another try. */
const ATTEMPTS_MAX = 5

/**
 * Makes a tenant that is reserved: role, database, bucket, schema, first user; active last of all, so that
 * nothing half made is ever served. Every step looks at what is there and does what is missing, so a run that
 * was killed is simply taken again; what is not this tenant's is never touched.
 *
 * @param signal stops it between two steps, and a migration between two files
 * @throws Fault; the failed step is noted in the run, and told to the audit
 */
export async function provision(
  deps: ProvisionDeps,
  actor: Actor,
  taken: Taken,
  signal: AbortSignal,
): Promise<TenantId> {
  const { store, keyring } = deps
  const { run, lease } = taken
  const { spec, tenantId } = run
  const work: Readonly<Record<StepName, (tenant: Tenant) => Promise<void>>> = {
    reserve: async () => {},
    role: async tenant => {
      const { password } = openConnections(keyring, tenant).db
      await withServer(deps, run, client => ensureRole(client, spec.role, password, tenantId))
    },
    database: () =>
      withServer(deps, run, client => ensureDatabase(client, spec.database, spec.role)),
    bucket: async tenant => {
      const { bucket } = openConnections(keyring, tenant)
      if (bucket !== null) await ensureBucket(deps, bucket, () => lease.noteBucket())
    },
    migrate: () => deps.migrate(tenantId, signal),
    admin: async tenant => {
      if (spec.admin === null) return
      await ensureFirstUser(deps, tenant, spec.admin, run.firstUserHashEncrypted)
    },
    activate: () => activate(deps, actor, taken),
  }
  const secrets: string[] = []
  const audit = { actor, action: 'tenant.provision', tenantId, tenantKey: spec.key }
  await atWork(store, taken, { secrets, audit }, async () => {
    for (const step of stepsOf(spec)) {
      deps.onStep(step)
      requireGoing(signal)
      await lease.noteStep(step)
      const tenant = await store.findById(tenantId)
      if (tenant === null) throw publicFault('CONFLICT', `the row of ${spec.key} was taken away`)
      const { db, bucket } = openConnections(keyring, tenant)
      secrets.push(db.password, bucket?.access_key ?? '', bucket?.secret_key ?? '')
      await work[step](tenant)
    }
  })
  return tenantId
}

async function withServer(
  deps: ProvisionDeps,
  { spec }: ProvisionRun,
  work: (client: Client) => Promise<void>,
): Promise<void> {
  const client = await connectAdmin(await findHost(deps.store, spec.host), deps)
  try {
    await work(client)
  } finally {
    await closePg(client)
  }
}

/** Its status and the end of the run are one: a tenant that is active has none. */
async function activate(
  { store }: ProvisionDeps,
  actor: Actor,
  { lease, run: { tenantId, spec } }: Taken,
): Promise<void> {
  for (let attempt = 1; attempt <= ATTEMPTS_MAX; attempt++) {
    const isDone = await store.transaction(async client => {
      await tellAudit(client, { actor, action: 'tenant.activate' })
      const row = await readRow(client, tenantId)
      // A run of an older release that lost its end only must not wake a tenant that was suspended since.
      if (row.status === 'provisioning') {
        const columns = { status: 'active', status_reason: null }
        if ((await updateRow(client, tenantId, versionOf(row), columns)) === null) return false
      }
      await lease.endRun(client)
      await addAudit(client, {
        ...{ actor, action: 'tenant.provision', tenantId, tenantKey: spec.key },
        details: { host: spec.host, database: spec.database, bucket: spec.bucket?.name ?? null },
      })
      return true
    })
    if (isDone) return
  }
  throw stale()
}
