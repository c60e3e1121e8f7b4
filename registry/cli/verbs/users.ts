import { type Command, InvalidArgumentError } from 'commander'
import type { Act } from '../act.ts'
import type { Streams } from '../streams.ts'
import { required, wholeNumber } from './options.ts'

/** Users of a tenant, and how they are signed out. */
export function addUserVerbs(program: Command, act: Act, streams: Streams): void {
  program
    .command('add-user [KEY]')
    .description("make a user in a tenant's database; exit code 3 where the email is taken")
    .option('--email <email>')
    .option('--name <name>')
    .option('--role-id <number>', 'role of the user', wholeNumber)
    .option('--batch', 'read JSON lines: {key, email, name, role_id, password}')
    .action((key: string | undefined, flags: UserFlags) => {
      if (flags.batch) {
        return act(async session => (await import('../batch.ts')).addUserBatch(session, streams))
      }
      const given = required(key, 'KEY')
      return act(async session =>
        (await import('../users.ts')).addOneUser(session, given, flags, streams),
      )
    })

  program
    .command('revoke-sessions <KEY|ID>')
    .description('sign everyone of a tenant out; who signs in from the next second on is in')
    .action(name =>
      act(async session => (await import('../tokens.ts')).revokeSessions(session, name, streams)),
    )

  program
    .command('revoke-token <KEY|ID>')
    .description('refuse one token; without --jti it is read like a secret; cannot be undone')
    .option('--jti <id>', 'claim jti of the token')
    .option('--expires <time>', 'its exp: seconds since the epoch, or an ISO 8601 time', moment)
    .action((name: string, flags: { jti?: string; expires?: Date }) =>
      act(async session =>
        (await import('../tokens.ts')).revokeToken(session, name, flags, streams),
      ),
    )
}

interface UserFlags {
  readonly email?: string
  readonly name?: string
  readonly roleId?: number
  readonly batch?: boolean
}

function moment(text: string): Date {
  const time = new Date(/^\d{1,11}$/.test(text) ? Number(text) * 1000 : text)
  if (Number.isNaN(time.getTime())) throw new InvalidArgumentError('Not a time.')
  return time
}
