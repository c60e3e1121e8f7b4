import type { Statement } from './statements.ts'

const HEAD = [
  ...['month', 'tenant_id', 'tenant_key', 'tenant_name', 'plan', 'currency', 'line', 'metric'],
  ...['of_month', 'quantity', 'amount_minor', 'total_minor', 'text', 'statement_id', 'frozen_at'],
]

/** The line of names that a file begins with. */
export const CSV_HEAD = `${HEAD.join(',')}\r\n`

/** A statement as records of CSV (RFC 4180), one for each of its lines. */
export function statementCsv({ id, inputs, lines, ...statement }: Statement): string {
  return lines
    .map(line => {
      const cells = [
        ...[statement.month, statement.tenant_id, statement.tenant_key, inputs.use.name ?? ''],
        ...[inputs.use.plan ?? '', statement.currency, line.kind, line.metric],
        ...[line.of_month ?? '', line.quantity, line.amount_minor, statement.total_minor],
        ...[line.text ?? '', id ?? '', statement.frozen_at ?? ''],
      ]
      return `${cells.map(cellOf).join(',')}\r\n`
    })
    .join('')
}

/**
 * A spreadsheet takes a text that begins like a formula for one and runs it, whoever wrote it (CWE-1236): an
 * apostrophe in front makes it a text. Our own numbers may be negative, and are none.
 */
function cellOf(cell: string | number): string {
  if (typeof cell === 'number') return String(cell)
  const safe = /^[\s]*[=+\-@|%\t\r\n]/.test(cell) ? `'${cell}` : cell
  return /[",\r\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe
}
