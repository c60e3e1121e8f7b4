import { readFileSync } from 'node:fs'
import knex from 'knex'
import { runner } from 'node-pg-migrate'
import pg from 'pg'
import { releaseOf } from './work.ts'

interface Job {
  readonly peer: 'knex' | 'node-pg-migrate' | 'connect'
  readonly directory: string
  readonly urls: readonly string[]
}

/** As the runner's. */
const AT_ONCE = 8

/** What a deploy script does with these runners: one database after the other, in one process. */
const job = JSON.parse(readFileSync(0, 'utf8')) as Job
if (job.peer === 'connect') await connectAll(job.urls)
else for (const url of job.urls) await (job.peer === 'knex' ? byKnex(url) : byNodePgMigrate(url))

/** What no runner can do without: a connection to each, as many at a time as the runner has. */
async function connectAll(urls: readonly string[]): Promise<void> {
  const left = [...urls]
  const work = async () => {
    for (let url = left.pop(); url !== undefined; url = left.pop()) {
      const client = new pg.Client({ connectionString: url })
      client.on('error', () => {})
      await client.connect()
      await client.end()
    }
  }
  await Promise.all(Array.from({ length: AT_ONCE }, work))
}

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
