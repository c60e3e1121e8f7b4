import { readFileSync } from 'node:fs'
import knex from 'knex'
import { runner } from 'node-pg-migrate'
import { releaseOf } from './work.ts'

interface Job {
  readonly peer: 'knex' | 'node-pg-migrate'
  readonly directory: string
  readonly urls: readonly string[]
}

/** What a deploy script does with these runners: one database after the other, in one process. */
const job = JSON.parse(readFileSync(0, 'utf8')) as Job
for (const url of job.urls) await (job.peer === 'knex' ? byKnex(url) : byNodePgMigrate(url))

async function byKnex(url: string): Promise<void> {
  const db = knex({ client: 'pg', connection: url, pool: { min: 0, max: 1 } })
  const steps = releaseOf('knex').map((sql, i) => ({ name: `${i}_step`, sql }))
  try {
    await db.migrate.latest({
      migrationSource: {
        getMigrations: async () => steps,
        getMigrationName: (step: (typeof steps)[number]) => step.name,
        getMigration: async (step: (typeof steps)[number]) => ({
          up: async (transaction: typeof db) => void (await transaction.raw(step.sql)),
          down: async () => {},
        }),
      },
    })
  } finally {
    await db.destroy()
  }
}

async function byNodePgMigrate(url: string): Promise<void> {
  const { directory: dir } = job
  const quiet = { info() {}, warn() {}, error() {}, debug() {} }
  await runner({
    ...{ databaseUrl: url, dir, direction: 'up', migrationsTable: 'pgmigrations', logger: quiet },
  })
}
