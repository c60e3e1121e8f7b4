import { mkdir, readdir, rename, writeFile } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import type { Actor } from '../admin/actor.ts'
import { addAudit } from '../admin/audit.ts'
import type { AdminDeps } from '../admin/deps.ts'
import { tenantItem } from '../admin/item.ts'
import { requireRow } from '../admin/row.ts'
import { openConnections } from '../connection.ts'
import { Fault } from '../lib/errors.ts'
import type { TenantId } from '../tenant.ts'
import { parseTenantRow } from '../tenant-row.ts'
import { type ExportedBucket, exportBucket, sha256 } from './bucket.ts'
import { type ExportedDatabase, exportDatabase } from './database.ts'

/** What `manifest.json` says. */
export interface Manifest {
  readonly format: 'doorman-export'
  readonly version: 1
  readonly tenant: { readonly id: string; readonly key: string }
  readonly exported_at: string
  readonly row: { readonly file: string; readonly sha256: string }
  readonly database: ExportedDatabase
  /** null: the tenant has none of its own. */
  readonly bucket: ExportedBucket | null
}

/** Of a folder that is being written; what has this ending is no whole export. */
export const UNFINISHED = '.unfinished'

/**
 * Writes all that a tenant has into a new folder: its row without secrets, its database as it was at one moment, and
 * its objects. The folder gets its name when everything is there.
 *
 * @throws Fault, or an Error of a file
 */
export async function exportTenant(
  deps: AdminDeps,
  actor: Actor,
  id: TenantId,
  folder: string,
  onProgress: (text: string) => void,
): Promise<Manifest> {
  const row = await requireRow(deps.store, id)
  const { db, bucket } = openConnections(await deps.keyring(), parseTenantRow(row))
  const target = resolve(folder)
  const unfinished = `${target}${UNFINISHED}`
  await requireNew(target)
  await make(unfinished)
  const item = `${JSON.stringify(tenantItem(row), null, 2)}\n`
  await writeFile(join(unfinished, 'tenant.json'), item, { mode: 0o600, flag: 'wx' })
  const manifest: Manifest = {
    format: 'doorman-export',
    version: 1,
    tenant: { id, key: String(row.tenant_key) },
    exported_at: new Date().toISOString(),
    row: { file: 'tenant.json', sha256: sha256(item) },
    database: await exportDatabase(db, deps, unfinished, onProgress),
    bucket: bucket === null ? null : await exportBucket(bucket, deps, unfinished, onProgress),
  }
  const text = `${JSON.stringify(manifest, null, 2)}\n`
  await writeFile(join(unfinished, 'manifest.json'), text, {
    mode: 0o600,
    flag: 'wx',
    flush: true,
  })
  const details = summaryOf(manifest)
  await deps.store.use(client =>
    addAudit(client, {
      actor,
      action: 'tenant.export',
      tenantId: id,
      tenantKey: manifest.tenant.key,
      details,
    }),
  )
  await rename(unfinished, target)
  return manifest
}

export function summaryOf({ database, bucket }: Manifest) {
  return {
    tables: database.tables.length,
    rows: database.tables.reduce((sum, { rows }) => sum + rows, 0),
    objects: bucket?.objects ?? 0,
    bytes: database.tables.reduce((sum, { bytes }) => sum + bytes, bucket?.bytes ?? 0),
  }
}

/** An empty folder is as good as none. */
async function requireNew(target: string): Promise<void> {
  const names = await readdir(target).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return []
    throw wrong(`${target} is no folder that can be used (${error.code})`)
  })
  if (names.length > 0) throw wrong(`${target} is not empty`)
}

async function make(unfinished: string): Promise<void> {
  try {
    await mkdir(unfinished, { mode: 0o700 })
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    throw wrong(
      code === 'EEXIST'
        ? `${unfinished} is of an export that did not end: remove it, or choose another folder`
        : `${unfinished} cannot be made (${code})`,
    )
  }
}

function wrong(text: string): Fault {
  return new Fault('VALIDATION_FAILED', text)
}
