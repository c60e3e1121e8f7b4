import { readFile } from 'node:fs/promises'
import { readFields } from '../admin/fields.ts'
import { creditInput, giveCredit } from '../billing/credits.ts'
import { priceListInput } from '../billing/price-list.ts'
import { listPrices, setPrices } from '../billing/prices.ts'
import { CSV_HEAD, statementCsv } from '../billing/statement-csv.ts'
import { freezeMonth, listStatements, statementOf } from '../billing/statements.ts'
import { parseTenantId } from '../tenant.ts'
import { CliFailure, EXIT, type ExitCode } from './failure.ts'
import { findListed, type Session } from './session.ts'
import type { Streams } from './streams.ts'

export type Format = 'csv' | 'json'

export interface MonthFlags {
  readonly month: string
  readonly format: Format
}

const PAGE = 200

export async function showPrices(session: Session, { output }: Streams): Promise<ExitCode> {
  output.write(`${JSON.stringify(await listPrices(session), null, 2)}\n`)
  return EXIT.ok
}

/** One list, or an array of them, as JSON. */
export async function setPricesFrom(
  session: Session,
  file: string,
  { output }: Streams,
): Promise<ExitCode> {
  let given: unknown
  try {
    given = JSON.parse(await readFile(file, 'utf8'))
  } catch (error) {
    throw new CliFailure(EXIT.usage, `${file}: ${(error as Error).message}`)
  }
  // All are read before the first is set.
  const lists = [given].flat().map(list => readFields(priceListInput, list))
  for (const list of lists) {
    const { plan, from_month, currency } = await setPrices(session, session.actor, list)
    output.write(`prices of ${plan} from ${from_month} on are set, in ${currency}\n`)
  }
  return EXIT.ok
}

/** Exit code 1: some could not be frozen, and the others are. */
export async function freeze(
  session: Session,
  { month }: { readonly month: string },
  { output, error }: Streams,
): Promise<ExitCode> {
  const counts = { frozen: 0, empty: 0, failed: 0 }
  let next: string | null = null
  do {
    const done = await freezeMonth(session, session.actor, month, next)
    counts.frozen += done.frozen
    counts.empty += done.empty
    counts.failed += done.failed.length
    for (const { tenant_id, problem } of done.failed) error.write(`${tenant_id}: ${problem}\n`)
    next = done.next
  } while (next !== null)
  const { frozen, empty, failed } = counts
  output.write(`${month}: ${frozen} statements frozen, ${empty} without one, ${failed} failed\n`)
  return failed === 0 ? EXIT.ok : EXIT.failure
}

/** All frozen statements of a month: a JSON line each, or CSV. */
export async function exportStatements(
  session: Session,
  { month, format }: MonthFlags,
  { output }: Streams,
): Promise<ExitCode> {
  if (format === 'csv') output.write(CSV_HEAD)
  let cursor: string | null = null
  do {
    const page = await listStatements(session, month, PAGE, cursor)
    for (const statement of page.items) {
      output.write(format === 'csv' ? statementCsv(statement) : `${JSON.stringify(statement)}\n`)
    }
    cursor = page.next_cursor
  } while (cursor !== null)
  return EXIT.ok
}

/** That of one tenant, or what it would be now. */
export async function showStatement(
  session: Session,
  name: string,
  { month, format }: MonthFlags,
  { output }: Streams,
): Promise<ExitCode> {
  // By its id also one that is deleted by now.
  const id = parseTenantId(name) ?? (await findListed(session, name)).id
  const statement = await statementOf(session, id, month)
  output.write(
    format === 'csv'
      ? CSV_HEAD + statementCsv(statement)
      : `${JSON.stringify(statement, null, 2)}\n`,
  )
  return EXIT.ok
}

export async function credit(
  session: Session,
  name: string,
  flags: { readonly amount: number; readonly currency: string; readonly reason: string },
  { output }: Streams,
): Promise<ExitCode> {
  const { id, key } = await findListed(session, name)
  const { amount: amount_minor, currency, reason } = flags
  const given = readFields(creditInput, { amount_minor, currency, reason })
  await giveCredit(session, session.actor, id, given)
  output.write(
    `${key} gets ${amount_minor} (minor units of ${currency}) back by its next statement\n`,
  )
  return EXIT.ok
}
