import { z } from 'zod'
import type { Actor } from '../admin/actor.ts'
import { addAudit } from '../admin/audit.ts'
import type { AdminDeps } from '../admin/deps.ts'
import { reason, wrongField } from '../admin/fields.ts'
import { newId } from '../admin/idempotency.ts'
import { Fault, publicFault } from '../lib/errors.ts'
import type { TenantId } from '../tenant.ts'
import type { TenantRow } from '../tenant-row.ts'

export interface Credit {
  readonly id: string
  readonly tenant_id: string
  readonly amount_minor: number
  readonly currency: string
  readonly reason: string
}

/** One that was given, with what became of it. */
export interface CreditItem extends Credit {
  readonly created_by: string
  readonly created_at: string
  /** The month of the statement that gave it; null: none yet. */
  readonly month: string | null
}

const AMOUNT_MAX = 1_000_000_000_000
const amountText = `must be a whole number from 1 to ${AMOUNT_MAX}`

export const creditInput = z.strictObject({
  amount_minor: z.int(amountText).min(1, amountText).max(AMOUNT_MAX, amountText),
  currency: z
    .string('must be a text')
    .regex(/^[A-Z]{3}$/, 'must be a code of ISO 4217, such as EUR'),
  reason: reason.unwrap(),
})

type Deps = Pick<AdminDeps, 'store'>

/** More than a person reads; what is older stands on its statement. */
const SHOWN_MAX = 100

const KNOWN = `
  SELECT EXISTS (SELECT FROM tenants WHERE id = $1)
    OR EXISTS (SELECT FROM statements WHERE tenant_id = $1) AS is_known`
/** Of the prices that hold for it now. */
const CURRENCY = `
  SELECT currency FROM price_lists
  WHERE plan IN ('*', (SELECT plan FROM tenants WHERE id = $1))
    AND from_month <= (now() AT TIME ZONE 'UTC')::date
  ORDER BY plan = '*', from_month DESC LIMIT 1`
const GIVE = `
  INSERT INTO billing_credits (id, tenant_id, amount_minor, currency, reason, created_by)
  VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (id) DO NOTHING`
const SAME = `
  SELECT FROM billing_credits
  WHERE id = $1 AND tenant_id = $2 AND amount_minor = $3 AND currency = $4 AND reason = $5`
const LIST = `
  SELECT c.id, c.tenant_id, c.amount_minor, c.currency, c.reason, c.created_by, c.created_at,
    to_char(s.month, 'YYYY-MM') AS month
  FROM billing_credits c LEFT JOIN statements s ON s.id = c.statement_id
  WHERE c.tenant_id = $1 ORDER BY c.created_at DESC, c.id LIMIT ${SHOWN_MAX}`

/**
 * What a tenant gets back by its next statement.
 *
 * @param idempotencyKey a repeated request with it is answered as the first was, and gives nothing more
 * @throws Fault NOT_FOUND, VALIDATION_FAILED where its prices are in another currency: it could never be given, nor
 *   taken back; CONFLICT where the Idempotency-Key was used for another credit
 */
export async function giveCredit(
  { store }: Deps,
  actor: Actor,
  id: TenantId,
  credit: z.output<typeof creditInput>,
  idempotencyKey: string | null = null,
): Promise<Credit> {
  const { amount_minor, currency, reason } = credit
  const creditId = newId('credit', actor, idempotencyKey)
  const values = [creditId, id, amount_minor, currency, reason]
  return store.transaction(async client => {
    const known = await client.query<{ is_known: boolean }>(KNOWN, [id])
    if (known.rows[0]?.is_known !== true) {
      throw new Fault('NOT_FOUND', `no tenant ${id}`, { publicMessage: 'There is no such tenant.' })
    }
    const prices = (await client.query<{ currency: string }>(CURRENCY, [id])).rows[0]
    if (prices !== undefined && prices.currency !== currency) {
      throw wrongField('currency', `must be that of its prices: ${prices.currency}`)
    }
    const { rowCount } = await client.query(GIVE, [...values, actor.name])
    if (rowCount === 1) {
      const details = { amount_minor, currency }
      await addAudit(client, { actor, action: 'tenant.credit', tenantId: id, reason, details })
    } else if ((await client.query(SAME, values)).rowCount !== 1) {
      const text = 'This Idempotency-Key was used for another credit.'
      throw publicFault('CONFLICT', text)
    }
    return { id: creditId, tenant_id: id, ...credit }
  })
}

/** The newest first; also of a tenant that is deleted. */
export async function listCredits({ store }: Deps, id: TenantId): Promise<readonly CreditItem[]> {
  return (await store.query(LIST, [id])).map(readCredit)
}

function readCredit(row: TenantRow): CreditItem {
  return {
    id: String(row.id),
    tenant_id: String(row.tenant_id),
    amount_minor: Number(row.amount_minor),
    currency: String(row.currency),
    reason: String(row.reason),
    created_by: String(row.created_by),
    created_at: (row.created_at as Date).toISOString(),
    month: row.month === null ? null : String(row.month),
  }
}
