import { type Command, Option } from 'commander'
import { TENANT_STATUSES, type TenantStatus } from '../../tenant.ts'
import type { Act } from '../act.ts'
import type { BucketFlags, DbFlags } from '../connection-flags.ts'
import type { EditFlags } from '../edit.ts'
import type { Streams } from '../streams.ts'
import { required, tenantMode, withBucketOptions, withDbOptions } from './options.ts'

/** Tenants: make one, look at it, change what is said of it, end its service. */
export function addTenantVerbs(program: Command, act: Act, streams: Streams): void {
  withBucketOptions(withDbOptions(program.command('create [KEY]')))
    .description('make a tenant; exit code 3 where the key is taken')
    .option('--name <name>', 'display name')
    .addOption(tenantMode().default('shared'))
    .addOption(
      new Option('--status <status>').choices(TENANT_STATUSES.slice(0, 4)).default('active'),
    )
    .option('--batch', 'read JSON lines: {key, name, mode, db: {host, …, password}, bucket: {…}}')
    .action((key: string | undefined, flags: DbFlags & BucketFlags & { batch?: boolean }) => {
      if (flags.batch) {
        return act(async session =>
          (await import('../batch.ts')).createBatch(session, flags, streams),
        )
      }
      const given = required(key, 'KEY')
      return act(async session =>
        (await import('../create.ts')).create(session, given, flags, streams),
      )
    })

  program
    .command('list')
    .description('tenants in order of their keys')
    .addOption(tenantMode())
    .addOption(new Option('--status <status>').choices(TENANT_STATUSES))
    .option('--json', 'as JSON')
    .action(flags =>
      act(async session => (await import('../list.ts')).listTenants(session, flags, streams)),
    )

  program
    .command('show <KEY|ID>')
    .description('one tenant, without its secrets')
    .option('--json', 'as JSON')
    .action((name, flags) =>
      act(async session => (await import('../list.ts')).show(session, name, flags, streams)),
    )

  program
    .command('edit <KEY|ID>')
    .description('change what is given of a tenant; an empty text takes a value away')
    .option('--name <name>', 'display name')
    .option('--plan <plan>', 'what it has bought')
    .option('--limits <json>', 'all its own limits, such as {"requests_per_s":100}')
    .option('--app-url <url>', 'own deployment of a dedicated tenant')
    .addOption(tenantMode('never back'))
    .option('--reason <text>', 'kept beside the status')
    .addHelpText('after', EDIT_HELP)
    .action((name: string, flags: EditFlags) =>
      act(async session => (await import('../edit.ts')).edit(session, name, flags, streams)),
    )

  program
    .command('test <KEY|ID>')
    .description('whether database and bucket work as the app uses them; exit code 1 where not')
    .option('--json', 'as JSON')
    .action((name: string, flags: { json?: boolean }) =>
      act(async session => (await import('../edit.ts')).test(session, name, flags, streams)),
    )

  const status = (verb: string, to: TenantStatus, description: string) =>
    program
      .command(`${verb} <KEY|ID>`)
      .description(description)
      .option('--reason <text>', 'kept beside the status')
      .action((name: string, { reason }: { reason?: string }) =>
        act(async session => {
          const { setStatus } = await import('../status.ts')
          return setStatus(session, name, to, reason ?? null, streams)
        }),
      )
  status('suspend', 'suspended', 'refuse all requests of a tenant; harmless when repeated')
  status('activate', 'active', 'serve a tenant again; harmless when repeated')
  status('maintenance', 'maintenance', 'answer 503 for a tenant that is worked at')
  status('archive', 'archived', 'end a tenant; after ARCHIVE_GRACE_DAYS it may be deleted')

  program
    .command('unarchive <KEY|ID>')
    .description('take a tenant out of the archive; it comes back suspended')
    .option('--reason <text>', 'kept beside the status')
    .action((name: string, flags: { reason?: string }) =>
      act(async session => (await import('../status.ts')).unarchive(session, name, flags, streams)),
    )
}

const EDIT_HELP = `
Examples:
  npm run -s tenant -- edit acme --plan gold --limits '{"requests_per_s":100}'
  npm run -s tenant -- edit acme --mode dedicated --app-url https://acme-app.internal:3000

Connections have verbs of their own, set-db and set-bucket: their secrets are never arguments.`
