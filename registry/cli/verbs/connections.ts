import type { Command } from 'commander'
import type { Act } from '../act.ts'
import type { IssuerFlags } from '../issuer.ts'
import type { Streams } from '../streams.ts'
import { withBucketOptions, withDbOptions } from './options.ts'

/** Where a tenant’s data is, who signs its tokens, and the role’s password. */
export function addConnectionVerbs(program: Command, act: Act, streams: Streams): void {
  withDbOptions(program.command('set-db <KEY|ID>'))
    .description('change the database; what is not given stays')
    .option('--keep-password', 'do not ask for a password')
    .action((name, flags) =>
      act(async session =>
        (await import('../connections.ts')).setDb(session, name, flags, streams),
      ),
    )

  withBucketOptions(program.command('set-bucket <KEY|ID>'))
    .description('replace the bucket and its keys')
    .option('--none', 'take the bucket away')
    .action((name, flags) =>
      act(async session =>
        (await import('../connections.ts')).setBucket(session, name, flags, streams),
      ),
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
        const { setIssuer } = await import('../issuer.ts')
        return setIssuer(session, name, flags, streams)
      }),
    )

  program
    .command('rotate <KEY|ID>')
    .description('give its database role a new random password, while everything runs')
    .option('--reason <text>', 'for the audit')
    .action((name: string, flags: { reason?: string }) =>
      act(async session => (await import('../edit.ts')).rotate(session, name, flags, streams)),
    )
}
