import type { Actor } from '../admin/actor.ts'
import { addAudit } from '../admin/audit.ts'
import { tellAudit } from '../admin/change.ts'
import { openConnections } from '../connection.ts'
import { publicFault } from '../lib/errors.ts'
import { closePg } from '../lib/pg.ts'
import { findListedTenant } from '../tenant-list.ts'
import type { BeginDeps } from './begin.ts'
import { dropBucket } from './bucket.ts'
import { connectAdmin, findHost } from './hosts.ts'
import { dropObjects } from './server-objects.ts'
import type { Taken } from './take.ts'
import { atWork, requireGoing } from './work.ts'

/** A tenant that never was active; any other is not ours to take away. */
const FORGET = `DELETE FROM tenants WHERE id = $1 AND status = 'provisioning'`

/**
 * Takes back what a run has made, in the reverse order: bucket, database, role, row. Not for a tenant that
 * was active already. Can be killed and taken again like the run itself.
 *
 * @throws Fault CONFLICT; the reason is noted in the run, and told to the audit
 */
export async function undoProvision(
  deps: BeginDeps,
  actor: Actor,
  taken: Taken,
  signal: AbortSignal,
  reason: string | null = null,
): Promise<void> {
  const { store, keyring } = deps
  const { run, lease } = taken
  const { tenantId, spec } = run
  const secrets: string[] = []
  const entry = { actor, action: 'tenant.provision_undo', reason }
  const audit = { ...entry, tenantId, tenantKey: spec.key }
  await atWork(store, taken, { secrets, audit }, async () => {
    const listed = await findListedTenant(store, tenantId)
    if (listed !== null && listed.status !== 'provisioning') {
      throw publicFault('CONFLICT', `${spec.key} is ${listed.status}: archive it, then delete it`)
    }
    await lease.beginUndo()
    const kept: string[] = []
    if (run.bucketMade && listed?.tenant != null) {
      await lease.noteStep('bucket')
      const { bucket } = openConnections(keyring, listed.tenant)
      secrets.push(bucket?.access_key ?? '', bucket?.secret_key ?? '')
      if (bucket !== null && !(await dropBucket(deps, bucket))) kept.push(bucket.name)
    }
    requireGoing(signal)
    await lease.noteStep('database')
    const client = await connectAdmin(await findHost(store, spec.host), deps)
    try {
      await dropObjects(client, spec, tenantId)
    } finally {
      await closePg(client)
    }
    await store.transaction(async client => {
      await tellAudit(client, entry)
      await client.query(FORGET, [tenantId])
      await lease.endRun(client)
      await addAudit(client, { ...audit, details: { buckets_kept: kept } })
    })
  })
}
