import type { Command } from 'commander'
import { type Act, LONG_MS } from '../act.ts'
import type { DeleteFlags } from '../delete.ts'
import type { ImportFlags } from '../import.ts'
import type { Streams } from '../streams.ts'

/** Tenants that come from elsewhere, and those that go for good. */
export function addTransferVerbs(program: Command, act: Act, streams: Streams): void {
  program
    .command('export <KEY|ID>')
    .description('write row, database and objects of a tenant into a new folder')
    .requiredOption('--to <dir>', 'a folder that does not exist, or is empty')
    .addHelpText('after', EXPORT_HELP)
    .action((name: string, flags: { to: string }) =>
      act(async session => (await import('../export.ts')).exportOne(session, name, flags, streams)),
    )

  program
    .command('import <FILE>')
    .description('take over tenants from a CSV or JSON file: a trial first, then --apply')
    .option('--apply', 'write the lines that fit')
    .option('--all-or-none', 'with --apply: nothing where a line fails; at most 2,000 lines')
    .option('--old-master-key', 'read the master key that the secrets of the file are sealed by')
    .option('--allow-shared-database', 'even where two tenants have one database')
    .option('--json', 'as JSON')
    .addHelpText('after', IMPORT_HELP)
    .action((path: string, flags: ImportFlags) =>
      act(
        async session => (await import('../import.ts')).importFleet(session, path, flags, streams),
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
        async session => (await import('../delete.ts')).deleteTenant(session, name, flags, streams),
        LONG_MS,
      ),
    )
}

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
Lines are taken 500 at a time, of a file of up to 200,000 (a JSON array: 16 MB). One that fails is
named and left out, the others are written, and the exit code is 1; run it again when it is mended, or
after whatever cut it short: a tenant that is there and is as the file says is skipped and counted, one
that is otherwise is named and left alone. Databases are not connected to: test KEY does that.

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
