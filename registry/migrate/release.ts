import { readdir } from 'node:fs/promises'
import { join } from 'node:path'

const TENANT_MIGRATIONS = join(import.meta.dirname, '../../migrations/tenant')
const UP_FILE = /^(\d{4})_[a-z0-9_]+\.sql$/

/** Versions of this release's tenant migrations, in order; the runner reads the files themselves. */
export async function releaseVersions(): Promise<readonly string[]> {
  const names = (await readdir(TENANT_MIGRATIONS)).sort()
  return names.flatMap(name => UP_FILE.exec(name)?.[1] ?? [])
}
