import { cp, mkdir, mkdtemp, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

/** The migrations of a small release; each runner gets its own tables, so that all can work on one fleet. */
export function releaseOf(prefix: string): readonly string[] {
  return [
    `CREATE TABLE ${prefix}_orders (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), total numeric(12, 2),
       created_at timestamptz NOT NULL DEFAULT now());
     CREATE INDEX ${prefix}_orders_created_at ON ${prefix}_orders (created_at);`,
    `ALTER TABLE ${prefix}_orders ADD COLUMN status text NOT NULL DEFAULT 'new',
       ADD CONSTRAINT ${prefix}_status_known CHECK (status IN ('new', 'paid'));`,
    `CREATE TABLE ${prefix}_lines (order_id uuid NOT NULL REFERENCES ${prefix}_orders, product text NOT NULL,
       count integer NOT NULL, PRIMARY KEY (order_id, product));`,
  ]
}

export interface Work {
  readonly folder: string
  /** For Doorman: the files of the repository, and four releases that end with these versions. */
  readonly doorman: string
  readonly first: string
  readonly second: string
  readonly third: string
  readonly fourth: string
  readonly nodePgMigrate: string
}

const TENANT_MIGRATIONS = fileURLToPath(new URL('../../migrations/tenant', import.meta.url))

export async function writeWork(): Promise<Work> {
  const folder = await mkdtemp(join(tmpdir(), 'doorman-bench-migrations-'))
  const doorman = join(folder, 'doorman')
  await cp(TENANT_MIGRATIONS, doorman, { recursive: true })
  const write = async (prefix: string, first: number) => {
    for (const [i, sql] of releaseOf(prefix).entries()) {
      await writeFile(join(doorman, `${first + i}_${prefix}.sql`), `${sql}\n`)
    }
  }
  await write('first', 9001)
  await write('second', 9011)
  await write('third', 9021)
  await write('fourth', 9031)
  const nodePgMigrate = join(folder, 'node-pg-migrate')
  await mkdir(nodePgMigrate)
  for (const [i, sql] of releaseOf('npm').entries()) {
    await writeFile(
      join(nodePgMigrate, `${1_700_000_000_000 + i}_step.sql`),
      `-- Up Migration\n${sql}\n`,
    )
  }
  return {
    folder,
    doorman,
    nodePgMigrate,
    first: '9003',
    second: '9013',
    third: '9023',
    fourth: '9033',
  }
}
