import { type Command, InvalidArgumentError, Option } from 'commander'
import type { AuditFlags, PruneFlags } from './audit.ts'
import type { Streams } from './commands.ts'
import type { DeleteFlags } from './delete.ts'
import type { EditFlags } from './edit.ts'
import type { ExitCode } from './failure.ts'
import type { ImportFlags } from './import.ts'
import type { PlanFlags } from './plans.ts'
import type { Session } from './session.ts'

/** Runs a command with a session; its modules are loaded by then, and not for --help. */
export type Act = (
  work: (session: Session) => Promise<ExitCode>,
  queryTimeoutMs?: number,
) => Promise<void>

/** Verbs of a tenant's later life: what it is called, whether it works, and its end. */
export function addLifecycleVerbs(program: Command, act: Act, streams: Streams): void {
  program
    .command('edit <KEY|ID>')
    .description('change what is given of a tenant; an empty text takes a value away')
    .option('--name <name>', 'display name')
    .option('--plan <plan>', 'what it has bought')
    .option('--limits <json>', 'all its own limits, such as {"requests_per_s":100}')
    .option('--app-url <url>', 'own deployment of a dedicated tenant')
    .addOption(new Option('--mode <mode>', 'never back').choices(['shared', 'dedicated']))
    .option('--reason <text>', 'kept beside the status')
    .addHelpText('after', EDIT_HELP)
    .action((name: string, flags: EditFlags) =>
      act(async session => (await import('./edit.ts')).edit(session, name, flags, streams)),
    )

  program
    .command('plan-set <CODE>')
    .description('make a plan, or change what is given of it; its tenants are held to it at once')
    .option('--name <name>', 'display name')
    .option('--limits <json>', 'all its limits, in place of those it has')
    .addOption(new Option('--weight <number>', 'share under pressure, default 1').argParser(Number))
    .addHelpText('after', PLAN_HELP)
    .action((code: string, flags: PlanFlags) =>
      act(async session => (await import('./plans.ts')).setPlan(session, code, flags, streams)),
    )

  program
    .command('plan-list')
    .description('plans, and how many tenants have each')
    .option('--json', 'as JSON')
    .action((flags: { json?: boolean }) =>
      act(async session => (await import('./plans.ts')).showPlans(session, flags, streams)),
    )

  program
    .command('plan-delete <CODE>')
    .description('delete a plan that no tenant has')
    .action((code: string) =>
      act(async session => (await import('./plans.ts')).deletePlan(session, code, streams)),
    )

  program
    .command('test <KEY|ID>')
    .description('whether database and bucket work as the app uses them; exit code 1 where not')
    .option('--json', 'as JSON')
    .action((name: string, flags: { json?: boolean }) =>
      act(async session => (await import('./edit.ts')).test(session, name, flags, streams)),
    )

  program
    .command('rotate <KEY|ID>')
    .description('give its database role a new random password, while everything runs')
    .option('--reason <text>', 'for the audit')
    .action((name: string, flags: { reason?: string }) =>
      act(async session => (await import('./edit.ts')).rotate(session, name, flags, streams)),
    )

  program
    .command('unarchive <KEY|ID>')
    .description('take a tenant out of the archive; it comes back suspended')
    .option('--reason <text>', 'kept beside the status')
    .action((name: string, flags: { reason?: string }) =>
      act(async session => (await import('./edit.ts')).unarchive(session, name, flags, streams)),
    )

  program
    .command('export <KEY|ID>')
    .description('write row, database and objects of a tenant into a new folder')
    .requiredOption('--to <dir>', 'a folder that does not exist, or is empty')
    .addHelpText('after', EXPORT_HELP)
    .action((name: string, flags: { to: string }) =>
      act(async session => (await import('./export.ts')).exportOne(session, name, flags, streams)),
    )

  program
    .command('import <FILE>')
    .description('take over tenants from a CSV or JSON file: a trial first, then --apply')
    .option('--apply', 'write, all lines or none')
    .option('--old-master-key', 'read the master key that the secrets of the file are sealed by')
    .option('--allow-shared-database', 'even where two tenants have one database')
    .option('--json', 'as JSON')
    .addHelpText('after', IMPORT_HELP)
    .action((path: string, flags: ImportFlags) =>
      act(
        async session => (await import('./import.ts')).importFleet(session, path, flags, streams),
        LONG_MS,
      ),
    )

  program
    .command('delete <KEY|ID>')
    .description('export an archived tenant and take it away for good')
    .option('--to <dir>', 'folder for the export, which comes first')
    .option('--no-export', 'delete it without one')
    .option('--yes-delete <KEY>', 'its key once more, where nobody can be asked')
    .option('--force', 'before its days in the archive are over (ARCHIVE_GRACE_DAYS)')
    .option('--drop-database', 'database and role too, where provision has made them')
    .option('--reason <text>', 'for the audit')
    .addHelpText('after', DELETE_HELP)
    .action((name: string, flags: DeleteFlags) =>
      act(
        async session => (await import('./delete.ts')).deleteTenant(session, name, flags, streams),
        LONG_MS,
      ),
    )
}

/** What was done, by whom, and for how long that is kept. */
export function addAuditVerbs(program: Command, act: Act, streams: Streams): void {
  program
    .command('audit [KEY|ID]')
    .description('who did what, the newest first; an id also of a tenant that is deleted')
    .option('--by <actor>', 'an admin key by its name, or cli:NAME')
    .option('--action <action>', 'such as tenant.suspend')
    .option('--limit <number>', 'default 50', wholeNumber)
    .option('--json', 'as JSON lines, with all that changed')
    .action((name: string | undefined, flags: AuditFlags) =>
      act(async session => (await import('./audit.ts')).showAudit(session, name, flags, streams)),
    )

  program
    .command('audit-prune')
    .description('take away the audit of before a time; it is kept for ever otherwise')
    .option('--before <time>', 'at least 30 days ago, such as 2026-01-31', day)
    .option('--keep-days <number>', 'the same, by days', wholeNumber)
    .option('--dry-run', 'only count')
    .addHelpText('after', PRUNE_HELP)
    .action((flags: PruneFlags) =>
      act(async session => (await import('./audit.ts')).prune(session, flags, streams), LONG_MS),
    )
}

function wholeNumber(text: string): number {
  if (!/^\d{1,9}$/.test(text)) throw new InvalidArgumentError('Not a whole number.')
  return Number(text)
}

function day(text: string): Date {
  const time = new Date(text)
  if (!/^20\d\d-/.test(text) || Number.isNaN(time.getTime())) {
    throw new InvalidArgumentError('Not a time such as 2026-01-31.')
  }
  return time
}

/** Of the installation as a whole. */
export function addDoctor(
  program: Command,
  act: Act,
  streams: Streams,
  env: NodeJS.ProcessEnv,
): void {
  program
    .command('doctor')
    .description(
      'look at the whole installation and say what to do; exit code 1 where it is broken',
    )
    .option('--quick', 'without connecting to the tenants’ databases')
    .option('--json', 'as JSON')
    .addHelpText('after', DOCTOR_HELP)
    .action((flags: { quick?: boolean; json?: boolean }) =>
      act(async session => (await import('./doctor.ts')).doctor(session, flags, env, streams)),
    )
}

/** A whole fleet in one transaction; a row deleted in the one that waits for DROP DATABASE. */
const LONG_MS = 120_000

const EDIT_HELP = `
Examples:
  npm run -s tenant -- edit acme --plan gold --limits '{"requests_per_s":100}'
  npm run -s tenant -- edit acme --mode dedicated --app-url https://acme-app.internal:3000

Connections have verbs of their own, set-db and set-bucket: their secrets are never arguments.`

const PLAN_HELP = `
Limits: requests_per_s, burst, in_flight, body_bytes, sockets, requests_per_month, quota (soft or hard);
null is no limit, and what is not named is the deployment's (TENANT_LIMITS). A tenant's own limits
(edit --limits) go before its plan's.

Example:
  npm run -s tenant -- plan-set basic --limits '{"requests_per_s":50,"burst":100,"sockets":20}'
  npm run -s tenant -- edit acme --plan basic`

const EXPORT_HELP = `
Into the folder: tenant.json (the row, without secrets), tables/ (one file a table, text format of
COPY, all as they were at one moment), objects/ with objects.jsonl (which file is which object), and
last manifest.json: columns, rows and SHA-256 of each file. While it is written the folder is called
DIR.unfinished; one that keeps that name is not whole.

Example:
  npm run -s tenant -- export acme --to /backup/acme-2026-01-31`

const IMPORT_HELP = `
The file is CSV with a head line, a JSON array, or JSON lines, with the names of the columns of the
table tenants. tenant_key, db_host, db_name, db_user and a password are needed; id keeps the tenant's
id, without which its tokens are of no tenant. A secret is in the clear (db_password,
bucket_access_key, bucket_secret_key) or sealed (db_password_encrypted, …) by MASTER_ENCRYPTION_KEY,
one of MASTER_ENCRYPTION_KEY_PREVIOUS, or the key of --old-master-key, which is read like a secret.
Tenants that exist are left alone. One line that fails: nothing is written, exit code 1. Databases
are not connected to: test KEY does that.

Examples:
  npm run -s tenant -- import fleet.csv
  printf '%s\\n' "$OLD_KEY" | npm run -s tenant -- import fleet.csv --old-master-key --apply`

const DELETE_HELP = `
Only an archived tenant can be deleted, and only after ARCHIVE_GRACE_DAYS, or with --force. It is
exported first. Its bucket stays, and so do its usage and its audit; database and role stay too
unless --drop-database, which drops only what provision has made.

Examples:
  npm run -s tenant -- archive acme --reason "contract ended"
  npm run -s tenant -- delete acme --to /backup/acme --drop-database
  npm run -s tenant -- delete acme --no-export --force --yes-delete acme`

const PRUNE_HELP = `
Each batch of rows that goes leaves one of its own (audit.prune: who, how many, of which time), and those
stay for good. Keep a copy first, where rules ask for one: audit --json, or a dump of admin_audit.

Examples:
  npm run -s tenant -- audit-prune --keep-days 730 --dry-run
  npm run -s tenant -- audit-prune --before 2024-01-01`

const DOCTOR_HELP = `
Registry, clock, migrations, triggers, listener, master key, rows, schema versions, shared databases,
every tenant's database (8 at a time) and connection limits. With the variables of gateway and app in
the environment also whether the context keys fit together (TENANT_CONTEXT_SIGNING_KEY,
TENANT_CONTEXT_PUBLIC_KEYS, TENANT_CONTEXT_ENCRYPTION_KEY), and whether the replicas of APP_UPSTREAMS are
ready (HEALTH_PATH). TENANT_SPREAD and DB_POOL_MAX go into the limits.

Each line is ok, warn or fail, with what to do below it. Warnings alone are exit code 0.

Examples:
  npm run -s tenant -- doctor
  npm run -s tenant -- doctor --quick --json`
