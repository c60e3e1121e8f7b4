import type { Command } from 'commander'
import type { Act } from '../act.ts'
import type { HoldFlags } from '../hold.ts'
import type { MoveFlags } from '../move.ts'
import type { Streams } from '../streams.ts'
import { sslMode, wholeNumber } from './options.ts'

/** Requests that wait, and the move of a tenant to another database meanwhile. */
export function addMoveVerbs(program: Command, act: Act, streams: Streams): void {
  program
    .command('hold <KEY|ID>')
    .description('let all requests of a tenant wait, for half a minute unless told otherwise')
    .option('--seconds <number>', 'at most 120; then they go on by themselves', wholeNumber)
    .option('--reason <text>', 'kept beside the hold')
    .action((name: string, flags: HoldFlags) =>
      act(async session => {
        const { holdTenant } = await import('../hold.ts')
        return holdTenant(session, name, flags, streams)
      }),
    )

  program
    .command('release <KEY|ID>')
    .description('end a hold; harmless when repeated')
    .action((name: string) =>
      act(async session => {
        const { releaseTenant } = await import('../hold.ts')
        return releaseTenant(session, name, streams)
      }),
    )

  program
    .command('move <KEY|ID>')
    .description('move a tenant to another database while it is served')
    .requiredOption('--to-host <host>')
    .option('--to-port <port>', 'default 5432', wholeNumber)
    .option('--to-db <name>', 'an empty database; default: the name of the present one')
    .option('--to-user <name>', 'its owner; default: the present role’s name')
    .addOption(sslMode('--to-ssl-mode'))
    .option('--to-admin <name>', 'make role and database as this role, whose password is read then')
    .option('--seconds <number>', 'how long requests may wait, 10 to 120; default 30', wholeNumber)
    .option('--live', 'rows come by logical replication while the tenant is served, however many')
    .option('--from-admin <name>', 'with --live: a role of the old server that may make others')
    .option('--from-address <host:port>', 'with --live: where the new server finds the old one')
    .option('--dry-run', 'only look whether it can be done')
    .action((name: string, flags: MoveFlags) =>
      act(async session => {
        const { moveCommand } = await import('../move.ts')
        return moveCommand(session, name, flags, streams)
      }),
    )
}
