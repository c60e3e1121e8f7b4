import { type Command, Option } from 'commander'
import { SECRET_COLUMNS, type SecretColumn } from '../../envelope.ts'
import type { Act } from '../act.ts'
import type { ExitCode } from '../failure.ts'
import type { Session } from '../session.ts'
import type { Streams } from '../streams.ts'

/** The master key of the secrets, and the keys of the admin API. */
export function addKeyVerbs(program: Command, act: Act, streams: Streams): void {
  program
    .command('rotate-master-key')
    .description('encrypt every secret anew under the first master key, while everything runs')
    .option('--check', 'only show which keys are in use; exit code 1 where one is not the first')
    .option('--retire <key id>', 'end a key that no secret is of any more')
    .action((flags: { check?: boolean; retire?: string }) =>
      act(async session => (await import('../keys.ts')).rotateMasterKey(session, flags, streams)),
    )

  program
    .command('encrypt <KEY|ID>')
    .description(
      'print what belongs into a column of this tenant for a secret, read like all secrets',
    )
    .addOption(new Option('--column <name>').choices(SECRET_COLUMNS).makeOptionMandatory())
    .action((name: string, { column }: { column: SecretColumn }) =>
      act(async session => (await import('../keys.ts')).encrypt(session, name, column, streams)),
    )

  program
    .command('decrypt-check [KEY|ID]')
    .description('whether each secret of one tenant, or of all, opens; shows none')
    .action((name: string | undefined) =>
      act(async session => (await import('../keys.ts')).decryptCheck(session, name, streams)),
    )

  const adminKey = program.command('admin-key').description('keys of the admin API')
  const actOnKeys = (work: (module: AdminKeys, session: Session) => Promise<ExitCode>) =>
    act(async session => work(await import('../admin-key.ts'), session))
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
}

type AdminKeys = typeof import('../admin-key.ts')
