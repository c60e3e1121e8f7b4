import type { Command } from 'commander'
import type { Act } from '../act.ts'
import type { HostFlags, ProvisionFlags } from '../provision.ts'
import type { Streams } from '../streams.ts'
import { sslMode, tenantMode, wholeNumber, withBucketOptions } from './options.ts'

/** Tenants with role, database and schema, and the servers these are made on. */
export function addProvisionVerbs(
  program: Command,
  act: Act,
  streams: Streams,
  env: NodeJS.ProcessEnv,
): void {
  withBucketOptions(program.command('provision <KEY>'))
    .description(
      'make a tenant with role, database, schema and first user; run it again after a failure',
    )
    .option('--on <HOST>', 'database host, see host-add')
    .option('--name <name>', 'display name')
    .addOption(tenantMode().default('shared'))
    .option('--db-name <name>', 'default tenant_KEY')
    .option('--db-user <name>', 'default tenant_KEY')
    .option('--db-pool-max <number>', 'connections in the whole fleet', wholeNumber)
    .option('--admin-email <email>', 'first user; the password is read first')
    .option('--admin-name <name>', 'its name')
    .option('--role-id <number>', 'its role, default 1', wholeNumber)
    .option('--resume', 'go on with a run that stopped, by whomever it was begun')
    .option('--undo', 'take back what an unfinished run has made')
    .action((key: string, flags: ProvisionFlags & { undo?: boolean; resume?: boolean }) =>
      act(async session => {
        const { provisionTenant, resumeTenant, undoTenant } = await import('../provision.ts')
        if (flags.resume) return resumeTenant(session, key, env, streams)
        return flags.undo
          ? undoTenant(session, key, streams)
          : provisionTenant(session, key, flags, env, streams)
      }),
    )

  program
    .command('host-add <NAME>')
    .description('a PostgreSQL server to make databases on; replaces one of that name')
    .option('--host <host>')
    .option('--port <port>', 'default 5432', wholeNumber)
    .option('--admin-user <role>', 'a role with CREATEROLE and CREATEDB; its password is read')
    .option('--admin-db <name>', 'database to connect to, default postgres')
    .addOption(sslMode('--ssl-mode'))
    .action((name: string, flags: HostFlags) =>
      act(async session => {
        const { addHost } = await import('../provision.ts')
        return addHost(session, name, flags, streams)
      }),
    )

  program
    .command('host-list')
    .description('servers that databases can be made on')
    .option('--json', 'as JSON')
    .action(flags =>
      act(async session => {
        const { showHosts } = await import('../provision.ts')
        return showHosts(session, flags, streams)
      }),
    )

  program
    .command('host-remove <NAME>')
    .description('make no more databases on it; tenants there stay')
    .action(name =>
      act(async session => {
        const { dropHost } = await import('../provision.ts')
        return dropHost(session, name, streams)
      }),
    )
}
