import { Command, CommanderError, InvalidArgumentError, Option } from 'commander'
import { SECRET_COLUMNS, type SecretColumn } from '../envelope.ts'
import { requireSafeRuntime } from '../lib/runtime.ts'
import { TENANT_STATUSES, type TenantStatus } from '../tenant.ts'
import type { BucketFlags, DbFlags, Streams } from './commands.ts'
import { CliFailure, EXIT, type ExitCode } from './failure.ts'
import type { HoldFlags } from './hold.ts'
import type { IssuerFlags } from './issuer.ts'
import { addAuditVerbs, addDoctor, addLifecycleVerbs } from './lifecycle-verbs.ts'
import type { MoveFlags } from './move.ts'
import type { HostFlags, ProvisionFlags } from './provision.ts'
import type { Session } from './session.ts'
import { addUsageVerbs } from './usage-verbs.ts'

const HELP = `
Secrets are never arguments. On a terminal they are asked for; otherwise they are read from
standard input, one per line: database password, then with --bucket-name the bucket's access key and
secret key. add-user reads the password, revoke-token the token, encrypt the secret,
host-add the password of the admin role, provision the first user's and then the bucket's keys,
move the password of --to-user, or with --to-admin the administrator’s (with --live then that of --from-admin).

Examples:
  printf '%s\\n' "$DB_PASSWORD" | npm run -s tenant -- create acme --name "Acme Inc" \\
    --db-host db.internal --db-name acme --db-user acme
  printf '%s\\n' "$PASSWORD" | npm run -s tenant -- add-user acme --email admin@acme.example \\
    --name Admin --role-id 1
  npm run -s tenant -- list --status suspended
  npm run -s tenant -- suspend acme --reason "invoice 42"
  npm run -s tenant -- revoke-sessions acme
  printf '%s\\n' "$DB_PASSWORD" | npm run -s tenant -- move acme --to-host db2.internal --dry-run
  printf '%s\\n' "$LEAKED_TOKEN" | npm run -s tenant -- revoke-token acme

Environment: TENANT_REGISTRY_DB_URL, MASTER_ENCRYPTION_KEY, MASTER_ENCRYPTION_KEY_PREVIOUS
(comma-separated), REGISTRY_DB_SSL_CA and DB_SSL_CA (PEM, or the path of a PEM file). add-user, move: with
NODE_ENV=production a database has no loopback, link-local or metadata address unless
TENANT_ADDRESS_ALLOW lists it. set-issuer: JWT_ISSUER is the platform's own issuer, which it refuses.

Exit codes: 0 ok, 1 failure, 2 wrong usage, 3 exists already, 4 no such tenant, 5 another one is at it.`

requireSafeRuntime()
process.exitCode = await run(process.argv.slice(2))

async function run(args: readonly string[]): Promise<ExitCode> {
  const streams = { input: process.stdin, output: process.stdout, error: process.stderr }
  let exitCode: ExitCode = EXIT.ok
  try {
    const program = makeProgram(streams, code => {
      exitCode = code
    })
    await program.parseAsync([...args], { from: 'user' })
    return exitCode
  } catch (error) {
    // Commander has written its text already.
    if (error instanceof CommanderError) return error.exitCode === 0 ? EXIT.ok : EXIT.usage
    const { explain } = await import('./commands.ts')
    const failure = explain(error)
    process.stderr.write(`doorman: ${failure.text}\n`)
    return failure.exitCode
  } finally {
    // A pipe that nobody closes must not keep a finished command alive.
    process.stdin.destroy()
  }
}

/** The modules behind a command are loaded when it runs, so that --help and a usage error are instant. */
function makeProgram(streams: Streams, done: (code: ExitCode) => void): Command {
  const act = async (
    work: (session: Session, commands: typeof import('./commands.ts')) => Promise<ExitCode>,
    queryTimeoutMs?: number,
  ) => {
    const [{ withSession }, commands] = await Promise.all([
      import('./session.ts'),
      import('./commands.ts'),
    ])
    done(await withSession(process.env, session => work(session, commands), queryTimeoutMs))
  }

  const program = new Command('tenant')
    .description(
      'Tenants of the Registry: create, look at, change, suspend, sign out, export, delete; users of a tenant; keys.',
    )
    .addHelpText('after', HELP)
    .exitOverride()
    .showHelpAfterError('(--help shows how)')

  withBucketOptions(withDbOptions(program.command('create [KEY]')))
    .description('make a tenant; exit code 3 where the key is taken')
    .option('--name <name>', 'display name')
    .addOption(new Option('--mode <mode>').choices(['shared', 'dedicated']).default('shared'))
    .addOption(
      new Option('--status <status>').choices(TENANT_STATUSES.slice(0, 4)).default('active'),
    )
    .option('--batch', 'read JSON lines: {key, name, mode, db: {host, …, password}, bucket: {…}}')
    .action((key: string | undefined, flags: DbFlags & BucketFlags & { batch?: boolean }) => {
      if (flags.batch) {
        return batch((m, session, say) => m.createBatch(session, flags, streams.input, say))
      }
      const given = required(key, 'KEY')
      return act((session, { create }) => create(session, given, flags, streams))
    })

  withBucketOptions(program.command('provision <KEY>'))
    .description(
      'make a tenant with role, database, schema and first user; run it again after a failure',
    )
    .option('--on <HOST>', 'database host, see host-add')
    .option('--name <name>', 'display name')
    .addOption(new Option('--mode <mode>').choices(['shared', 'dedicated']).default('shared'))
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
        const { provisionTenant, resumeTenant, undoTenant } = await import('./provision.ts')
        if (flags.resume) return resumeTenant(session, key, process.env, streams)
        return flags.undo
          ? undoTenant(session, key, streams)
          : provisionTenant(session, key, flags, process.env, streams)
      }),
    )

  program
    .command('host-add <NAME>')
    .description('a PostgreSQL server to make databases on; replaces one of that name')
    .option('--host <host>')
    .option('--port <port>', 'default 5432', wholeNumber)
    .option('--admin-user <role>', 'a role with CREATEROLE and CREATEDB; its password is read')
    .option('--admin-db <name>', 'database to connect to, default postgres')
    .addOption(new Option('--ssl-mode <mode>').choices(['disable', 'require', 'verify-full']))
    .action((name: string, flags: HostFlags) =>
      act(async session => {
        const { addHost } = await import('./provision.ts')
        return addHost(session, name, flags, streams)
      }),
    )

  program
    .command('host-list')
    .description('servers that databases can be made on')
    .option('--json', 'as JSON')
    .action(flags =>
      act(async session => {
        const { showHosts } = await import('./provision.ts')
        return showHosts(session, flags, streams)
      }),
    )

  program
    .command('host-remove <NAME>')
    .description('make no more databases on it; tenants there stay')
    .action(name =>
      act(async session => {
        const { dropHost } = await import('./provision.ts')
        return dropHost(session, name, streams)
      }),
    )

  program
    .command('list')
    .description('tenants in order of their keys')
    .addOption(new Option('--mode <mode>').choices(['shared', 'dedicated']))
    .addOption(new Option('--status <status>').choices(TENANT_STATUSES))
    .option('--json', 'as JSON')
    .action(flags => act((session, { listTenants }) => listTenants(session, flags, streams)))

  program
    .command('show <KEY|ID>')
    .description('one tenant, without its secrets')
    .option('--json', 'as JSON')
    .action((name, flags) => act((session, { show }) => show(session, name, flags, streams)))

  const status = (verb: string, to: TenantStatus, description: string) =>
    program
      .command(`${verb} <KEY|ID>`)
      .description(description)
      .option('--reason <text>', 'kept beside the status')
      .action((name: string, { reason }: { reason?: string }) =>
        act((session, { setStatus }) => setStatus(session, name, to, reason ?? null, streams)),
      )
  status('suspend', 'suspended', 'refuse all requests of a tenant; harmless when repeated')
  status('activate', 'active', 'serve a tenant again; harmless when repeated')
  status('maintenance', 'maintenance', 'answer 503 for a tenant that is worked at')
  status('archive', 'archived', 'end a tenant; after ARCHIVE_GRACE_DAYS it may be deleted')
  addLifecycleVerbs(program, act, streams)
  addUsageVerbs(program, act, streams)
  addAuditVerbs(program, act, streams)
  addDoctor(program, act, streams, process.env)

  program
    .command('revoke-sessions <KEY|ID>')
    .description('sign everyone of a tenant out; who signs in from the next second on is in')
    .action(name => act((session, { revokeSessions }) => revokeSessions(session, name, streams)))

  program
    .command('revoke-token <KEY|ID>')
    .description('refuse one token; without --jti it is read like a secret; cannot be undone')
    .option('--jti <id>', 'claim jti of the token')
    .option('--expires <time>', 'its exp: seconds since the epoch, or an ISO 8601 time', moment)
    .action((name: string, flags: { jti?: string; expires?: Date }) =>
      act((session, { revokeToken }) => revokeToken(session, name, flags, streams)),
    )

  withDbOptions(program.command('set-db <KEY|ID>'))
    .description('change the database; what is not given stays')
    .option('--keep-password', 'do not ask for a password')
    .action((name, flags) => act((session, { setDb }) => setDb(session, name, flags, streams)))

  withBucketOptions(program.command('set-bucket <KEY|ID>'))
    .description('replace the bucket and its keys')
    .option('--none', 'take the bucket away')
    .action((name, flags) =>
      act((session, { setBucket }) => setBucket(session, name, flags, streams)),
    )

  program
    .command('set-issuer <KEY|ID>')
    .description('let an identity provider of the tenant’s own sign its access tokens')
    .option('--issuer <iss>', 'claim iss of its tokens; no other tenant may have it')
    .option('--jwks-url <url>', 'where its public keys are')
    .option('--audience <aud>', 'what claim aud of its tokens must name')
    .option('--none', 'take it away')
    .action((name: string, flags: IssuerFlags) =>
      act(async session => {
        const { setIssuer } = await import('./issuer.ts')
        return setIssuer(session, name, flags, streams)
      }),
    )

  program
    .command('rotate-master-key')
    .description('encrypt every secret anew under the first master key, while everything runs')
    .option('--check', 'only show which keys are in use; exit code 1 where one is not the first')
    .option('--retire <key id>', 'end a key that no secret is of any more')
    .action((flags: { check?: boolean; retire?: string }) =>
      act(async session => (await keys()).rotateMasterKey(session, flags, streams)),
    )

  program
    .command('encrypt <KEY|ID>')
    .description(
      'print what belongs into a column of this tenant for a secret, read like all secrets',
    )
    .addOption(new Option('--column <name>').choices(SECRET_COLUMNS).makeOptionMandatory())
    .action((name: string, { column }: { column: SecretColumn }) =>
      act(async session => (await keys()).encrypt(session, name, column, streams)),
    )

  program
    .command('decrypt-check [KEY|ID]')
    .description('whether each secret of one tenant, or of all, opens; shows none')
    .action((name: string | undefined) =>
      act(async session => (await keys()).decryptCheck(session, name, streams)),
    )

  program
    .command('hold <KEY|ID>')
    .description('let all requests of a tenant wait, for half a minute unless told otherwise')
    .option('--seconds <number>', 'at most 120; then they go on by themselves', wholeNumber)
    .option('--reason <text>', 'kept beside the hold')
    .action((name: string, flags: HoldFlags) =>
      act(async session => {
        const { holdTenant } = await import('./hold.ts')
        return holdTenant(session, name, flags, streams)
      }),
    )

  program
    .command('move <KEY|ID>')
    .description('move a tenant to another database while it is served')
    .requiredOption('--to-host <host>')
    .option('--to-port <port>', 'default 5432', wholeNumber)
    .option('--to-db <name>', 'an empty database; default: the name of the present one')
    .option('--to-user <name>', 'its owner; default: the present role’s name')
    .addOption(new Option('--to-ssl-mode <mode>').choices(['disable', 'require', 'verify-full']))
    .option('--to-admin <name>', 'make role and database as this role, whose password is read then')
    .option('--seconds <number>', 'how long requests may wait, 10 to 120; default 30', wholeNumber)
    .option('--live', 'rows come by logical replication while the tenant is served, however many')
    .option('--from-admin <name>', 'with --live: a role of the old server that may make others')
    .option('--from-address <host:port>', 'with --live: where the new server finds the old one')
    .option('--dry-run', 'only look whether it can be done')
    .action((name: string, flags: MoveFlags) =>
      act(async session => {
        const { moveCommand } = await import('./move.ts')
        return moveCommand(session, name, flags, streams)
      }),
    )

  program
    .command('release <KEY|ID>')
    .description('end a hold; harmless when repeated')
    .action((name: string) =>
      act(async session => {
        const { releaseTenant } = await import('./hold.ts')
        return releaseTenant(session, name, streams)
      }),
    )

  program
    .command('add-user [KEY]')
    .description("make a user in a tenant's database; exit code 3 where the email is taken")
    .option('--email <email>')
    .option('--name <name>')
    .option('--role-id <number>', 'role of the user', wholeNumber)
    .option('--batch', 'read JSON lines: {key, email, name, role_id, password}')
    .action((key: string | undefined, flags: UserFlags) => {
      if (flags.batch)
        return batch((m, session, say) => m.addUserBatch(session, streams.input, say))
      const given = required(key, 'KEY')
      return act((session, { addOneUser }) => addOneUser(session, given, flags, streams))
    })

  const adminKey = program.command('admin-key').description('keys of the admin API')
  const actOnKeys = (work: (module: AdminKeys, session: Session) => Promise<ExitCode>) =>
    act(async session => work(await import('./admin-key.ts'), session))
  adminKey
    .command('create <NAME>')
    .description('make a key and print it, this once; exit code 3 where the name is taken')
    .addOption(
      new Option('--scope <scope>', 'what it may do')
        .choices(['read', 'operate', 'own'])
        .default('read'),
    )
    .action((name, flags) => actOnKeys((m, session) => m.createKey(session, name, flags, streams)))
  adminKey
    .command('list')
    .description('names and scopes')
    .option('--json', 'as JSON')
    .action(flags => actOnKeys((m, session) => m.listKeys(session, flags, streams)))
  adminKey
    .command('revoke <NAME>')
    .description('from the next request on it opens nothing')
    .action(name => actOnKeys((m, session) => m.revokeKey(session, name, streams)))

  return program

  function keys() {
    return import('./keys.ts')
  }

  function batch(
    work: (
      module: typeof import('./batch.ts'),
      session: Session,
      say: (text: string) => void,
    ) => Promise<ExitCode>,
  ): Promise<void> {
    const say = (text: string) => streams.output.write(`${text}\n`)
    return act(async session => work(await import('./batch.ts'), session, say))
  }
}

type AdminKeys = typeof import('./admin-key.ts')

interface UserFlags {
  readonly email?: string
  readonly name?: string
  readonly roleId?: number
  readonly batch?: boolean
}

function withDbOptions(command: Command): Command {
  return command
    .option('--db-host <host>')
    .option('--db-port <port>', 'default 5432', wholeNumber)
    .option('--db-name <name>')
    .option('--db-user <user>')
    .addOption(new Option('--db-ssl-mode <mode>').choices(['disable', 'require', 'verify-full']))
    .option('--db-pool-max <number>', 'connections per app replica', wholeNumber)
    .option(
      '--allow-shared-database',
      'even where another tenant has this database: they share data',
    )
}

function withBucketOptions(command: Command): Command {
  return command
    .option('--bucket-name <name>')
    .option('--bucket-provider <provider>', 'such as aws, minio')
    .option('--bucket-endpoint <url>')
    .option('--bucket-region <region>')
    .option(
      '--bucket-prefix <prefix>',
      'such as acme/; no other tenant of the bucket may overlap it',
    )
}

function wholeNumber(text: string): number {
  if (!/^\d{1,9}$/.test(text)) throw new InvalidArgumentError('Not a whole number.')
  return Number(text)
}

function moment(text: string): Date {
  const time = new Date(/^\d{1,11}$/.test(text) ? Number(text) * 1000 : text)
  if (Number.isNaN(time.getTime())) throw new InvalidArgumentError('Not a time.')
  return time
}

function required(value: string | undefined, name: string): string {
  if (value === undefined) throw new CliFailure(EXIT.usage, `${name} is required (or --batch)`)
  return value
}
