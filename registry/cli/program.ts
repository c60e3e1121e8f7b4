import { Command } from 'commander'
import { makeAct } from './act.ts'
import type { ExitCode } from './failure.ts'
import type { Streams } from './streams.ts'
import { addAuditVerbs } from './verbs/audit.ts'
import { addConnectionVerbs } from './verbs/connections.ts'
import { addDebugVerb } from './verbs/debug.ts'
import { addDoctor } from './verbs/doctor.ts'
import { addKeyVerbs } from './verbs/keys.ts'
import { addMoveVerbs } from './verbs/move.ts'
import { addPlanVerbs } from './verbs/plans.ts'
import { addProvisionVerbs } from './verbs/provision.ts'
import { addTenantVerbs } from './verbs/tenants.ts'
import { addTransferVerbs } from './verbs/transfer.ts'
import { addUsageVerbs } from './verbs/usage.ts'
import { addUserVerbs } from './verbs/users.ts'

/**
 * The command line: its verbs by what they are about, in the order of --help. What a verb does stands beside this file.
 *
 * @param done told the exit code of the command that ran
 */
export function makeProgram(
  streams: Streams,
  env: NodeJS.ProcessEnv,
  done: (code: ExitCode) => void,
): Command {
  const act = makeAct(env, done)
  const program = new Command('tenant')
    .description(
      'Tenants of the Registry: create, look at, change, suspend, sign out, export, delete; users of a tenant; keys.',
    )
    .addHelpText('after', HELP)
    .exitOverride()
    .showHelpAfterError('(--help shows how)')

  program.commandsGroup('Tenants:')
  addTenantVerbs(program, act, streams)
  addProvisionVerbs(program, act, streams, env)
  addTransferVerbs(program, act, streams)
  program.commandsGroup('Where their data is:')
  addConnectionVerbs(program, act, streams)
  addMoveVerbs(program, act, streams)
  program.commandsGroup('Their users:')
  addUserVerbs(program, act, streams)
  program.commandsGroup('What they may use, and what they used:')
  addPlanVerbs(program, act, streams)
  addUsageVerbs(program, act, streams)
  program.commandsGroup('The installation:')
  addKeyVerbs(program, act, streams)
  addAuditVerbs(program, act, streams)
  addDebugVerb(program, act, streams)
  addDoctor(program, act, streams, env)
  return program
}

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
