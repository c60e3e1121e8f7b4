import { appendFileSync, readFileSync } from 'node:fs'
import { createServer as createHttpServer } from 'node:http'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { json } from 'node:stream/consumers'
import pg from 'pg'
import { startTestPostgres } from '../../local/postgres.ts'
import { startS3 } from '../../local/s3.ts'
import type { Service } from './compose-file.ts'
import { type Engine, forward, listen } from './engine.ts'

type Stop = () => Promise<void>

/** PostgreSQL of npm, with the roles that the image makes by the same file. */
export async function standForPostgres(
  service: Service,
  engine: Engine,
  folder: string,
): Promise<Stop> {
  await engine.networks.addHere('postgres', service.networks)
  const settings = (service.command ?? []).filter(word => word.includes('='))
  const server = await startTestPostgres({
    ...Object.fromEntries(settings.map(word => word.split('=') as [string, string])),
    listen_addresses: '*',
    port: '5432',
  })
  const url = new URL(server.url('postgres'))
  url.port = '5432'
  const client = new pg.Client({ connectionString: url.href, connectionTimeoutMillis: 5000 })
  client.on('error', () => {})
  try {
    await client.connect()
    const { rows } = await client.query('SHOW hba_file')
    appendFileSync(rows[0].hba_file, 'host all all all scram-sha-256\n')
    await client.query('SELECT pg_reload_conf()')
    for (const statement of statementsOf(readFileSync(join(folder, 'postgres-roles.sh'), 'utf8'))) {
      await client.query(
        statement.replace(/:'(\w+)'/g, (_, name) =>
          pg.escapeLiteral(readFileSync(engine.secretFile(`${name}_password`), 'utf8')),
        ),
      )
    }
  } finally {
    await client.end().catch(() => {})
  }
  return () => server.stop()
}

/** The S3 server of the embedded demo: one pair of keys, which may make buckets, and none of them there. */
export async function standForS3(
  service: Service,
  engine: Engine,
  dataDir: string,
  makes: string,
): Promise<Stop> {
  const { identities } = JSON.parse(readFileSync(engine.secretFile('s3.json'), 'utf8'))
  const [{ credentials }] = identities
  const grants = [{ ...credentials[0], buckets: [], makes }]
  const server = await startS3({ dataDir, buckets: [], grants })
  const [, port = ''] = /-s3\.port=(\d+)/.exec(String(service.command)) ?? []
  await engine.networks.addHere('s3', service.networks)
  for (const address of engine.networks.addressesOf('s3')) {
    await listen(
      createServer(client => forward(client, '127.0.0.1', server.port)),
      Number(port),
      address,
    )
  }
  return () => server.stop()
}

/** A collector of traces that remembers the names of the services whose spans came. */
export async function standForCollector(
  name: string,
  service: Service,
  engine: Engine,
  seen: Set<string>,
): Promise<Stop> {
  const server = createHttpServer(async (req, res) => {
    const { resourceSpans } = (await json(req)) as {
      resourceSpans: { resource: { attributes: { key: string; value: object }[] } }[]
    }
    for (const { resource } of resourceSpans) {
      const named = resource.attributes.find(({ key }) => key === 'service.name')
      if (req.url === '/v1/traces') seen.add(String(Object.values(named?.value ?? {})[0]))
    }
    res.end('{}')
  })
  await engine.networks.addHere(name, service.networks)
  await listen(server, 4318, '0.0.0.0')
  return async () => {
    server.closeAllConnections()
    server.close()
  }
}

/** Of the text that the file hands to psql. */
function statementsOf(script: string): string[] {
  const [, sql = ''] = /<<'SQL'\n([\s\S]*?)^SQL$/m.exec(script) ?? []
  const statements = sql.split(';').map(text => text.trim())
  return statements.filter(text => text !== '')
}
