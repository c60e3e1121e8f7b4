import { audited } from '../admin/audited.ts'
import { keyIdOf, SECRET_COLUMNS, type SecretColumn } from '../envelope.ts'
import { readKeyChecks } from '../key-check.ts'
import { checkOtherSecrets, rewrapOtherSecrets } from '../provision/secrets.ts'
import { rewrapSecrets, whyUnopened } from '../rewrap.ts'
import { countSecrets, retireKey, tenantSecrets } from '../stored-secrets.ts'
import { seal } from './create.ts'
import { CliFailure, EXIT, type ExitCode } from './failure.ts'
import { readSecrets } from './input.ts'
import { findListed, type Session } from './session.ts'
import type { Streams } from './streams.ts'
import { table } from './view.ts'

/** Brings every secret under the first master key, while everything runs; may be killed and run again. */
export async function rotateMasterKey(
  session: Session,
  flags: { check?: boolean; retire?: string },
  streams: Streams,
): Promise<ExitCode> {
  if (flags.check && flags.retire !== undefined) {
    throw new CliFailure(EXIT.usage, '--check or --retire, not both')
  }
  if (flags.check) return checkKeys(session, streams)
  if (flags.retire !== undefined) return retire(session, flags.retire, streams)
  const { output, error } = streams
  const keyring = await session.keyring()
  const entry = { action: 'master_key.rotate', details: { key_id: keyring.currentKeyId } }
  const { tenants, unopened, isComplete } = await audited(
    session,
    entry,
    () =>
      rewrapSecrets({
        store: session.store,
        keyring,
        onProgress: done => output.write(`${done} tenants so far\n`),
      }),
    done => ({ tenants: done.tenants, unopened: done.unopened.length }),
  )
  for (const { tenantKey, column, reason } of unopened) {
    error.write(`doorman: ${tenantKey}: ${column}: ${reason}\n`)
  }
  const others = await rewrapOtherSecrets(session.store, keyring)
  const { hosts } = others
  for (const { name, problem } of others.unopened) error.write(`doorman: ${name}: ${problem}\n`)
  if (hosts > 0) output.write(`${hosts} database hosts\n`)
  output.write(`${tenants} tenants now under key ${keyring.currentKeyId}\n`)
  if (!isComplete) {
    throw new CliFailure(EXIT.failure, 'tenants were changed all the while: run it again')
  }
  return unopened.length + others.unopened.length === 0 ? EXIT.ok : EXIT.failure
}

/** Which keys are in use. Exit code 1 where a secret is not of the first key. */
async function checkKeys(session: Session, { output }: Streams): Promise<ExitCode> {
  const keyring = await session.keyring()
  const [uses, checks] = [
    await countSecrets(session.store),
    new Set((await readKeyChecks(session.store)).map(({ keyId }) => keyId)),
  ]
  const names = new Set<string | null>([
    ...keyring.keyIds,
    ...checks,
    ...uses.map(({ keyId }) => keyId),
  ])
  const roleOf = (keyId: string | null) => {
    if (keyId === null) return 'of the older tool'
    if (keyId === keyring.currentKeyId) return 'encrypts'
    return keyring.keyIds.includes(keyId) ? 'decrypts' : 'not given here'
  }
  const rows = [...names].map(keyId => {
    const use = uses.find(one => one.keyId === keyId)
    return [
      ...[keyId ?? '-', roleOf(keyId)],
      ...[String(use?.secrets ?? 0), String(use?.tenants ?? 0)],
      keyId !== null && checks.has(keyId) ? 'yes' : 'no',
    ]
  })
  output.write(`${table(['KEY', 'USE', 'SECRETS', 'TENANTS', 'CHECK ROW'], rows)}\n`)
  return uses.every(({ keyId }) => keyId === keyring.currentKeyId) ? EXIT.ok : EXIT.failure
}

/** Ends a master key that nothing needs any more: a process that has this one alone then refuses to start. */
async function retire(session: Session, keyId: string, { output }: Streams): Promise<ExitCode> {
  const { currentKeyId } = await session.keyring()
  if (keyId === currentKeyId) {
    throw new CliFailure(EXIT.usage, `${keyId} is the key that encrypts: put another first`)
  }
  const isRetired = await audited(
    session,
    { action: 'master_key.retire', details: { key_id: keyId } },
    () => retireKey(session.store, keyId),
    is => ({ is_retired: is }),
  )
  if (!isRetired) {
    const checks = await readKeyChecks(session.store)
    if (!checks.some(row => row.keyId === keyId)) {
      throw new CliFailure(EXIT.notFound, `there is no key ${keyId}`)
    }
    const uses = await countSecrets(session.store)
    const count = uses
      .filter(use => use.keyId === keyId || use.keyId === null)
      .reduce((sum, { secrets }) => sum + secrets, 0)
    const reason = `${count} secrets are of key ${keyId} or of the older tool: rotate first`
    throw new CliFailure(EXIT.failure, reason)
  }
  output.write(`${keyId} is retired: take it out of MASTER_ENCRYPTION_KEY_PREVIOUS\n`)
  return EXIT.ok
}

/** What belongs into `column` of a tenant's row for the secret on standard input. */
export async function encrypt(
  session: Session,
  name: string,
  column: SecretColumn,
  streams: Streams,
): Promise<ExitCode> {
  const { id } = await findListed(session, name)
  const [secret] = await readSecrets(['Secret'], streams.input, streams.error)
  streams.output.write(`${seal(await session.keyring(), id, column, secret as string)}\n`)
  return EXIT.ok
}

/** Whether each secret opens, of one tenant or of all and of the database hosts; none is shown. Exit code 1 where one does not. */
export async function decryptCheck(
  session: Session,
  name: string | undefined,
  { output }: Streams,
): Promise<ExitCode> {
  const only = name === undefined ? null : (await findListed(session, name)).id
  const keyring = await session.keyring()
  let failed = 0
  for await (const page of tenantSecrets(session.store, null)) {
    for (const secrets of page) {
      if (only !== null && secrets.id !== only) continue
      for (const column of SECRET_COLUMNS) {
        const ciphertext = secrets[column]
        if (!ciphertext) continue
        const why = whyUnopened(keyring, secrets.id, column, ciphertext)
        if (why !== null) failed += 1
        const word = why === null ? 'opens ' : 'FAILED'
        const detail = why ?? `key ${keyIdOf(ciphertext) ?? 'of the older tool'}`
        output.write(`${word}  ${secrets.tenant_key}  ${column}  ${detail}\n`)
      }
    }
  }
  if (only === null) {
    for (const { name: of, problem, keyId } of await checkOtherSecrets(session.store, keyring)) {
      if (problem !== null) failed += 1
      const word = problem === null ? 'opens ' : 'FAILED'
      output.write(`${word}  ${of}  ${problem ?? `key ${keyId ?? 'of the older tool'}`}\n`)
    }
  }
  return failed === 0 ? EXIT.ok : EXIT.failure
}
