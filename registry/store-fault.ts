import pg from 'pg'
import { Fault, publicFault } from './lib/errors.ts'

/** True where the statement was refused and the connection is as good as before. */
export function isStatementError(error: unknown): boolean {
  if (error instanceof Fault) return true
  return error instanceof pg.DatabaseError && /^(22|23|40|42|P0)/.test(error.code ?? '')
}

/** A driver's error as a Fault. Its `detail` holds the whole row and goes no further. */
export function registryFault(error: unknown): Fault {
  if (error instanceof Fault) return error
  const { message, code } = error as { message?: string; code?: string }
  const cause = Object.assign(new Error(message), { code })
  if (code === '23505') {
    const { constraint } = error as { constraint?: string }
    if (constraint === 'tenants_bucket_prefix_unique')
      return publicFault('CONFLICT', String(message))
    const what = constraint === 'tenants_token_issuer_unique' ? 'issuer' : 'key'
    return publicFault('CONFLICT', `a tenant with this ${what} exists already`, { cause })
  }
  if ((error as { constraint?: string }).constraint === 'tenants_plan_known') {
    // A plan that goes (restrict_violation), or a tenant that takes one.
    if (code === '23001') return publicFault('CONFLICT', 'the plan is in use')
    const problem = 'there is no such plan'
    const reason = `plan: ${problem}`
    return new Fault('VALIDATION_FAILED', reason, {
      publicMessage: reason,
      problems: { plan: problem },
    })
  }
  if (code?.startsWith('23') || code?.startsWith('22')) {
    const reason = String(message)
    return publicFault('VALIDATION_FAILED', reason, { cause })
  }
  const reason =
    code === '42P01' || code === '42703'
      ? 'the Registry has an older schema: run npm run db:registry-migrate'
      : `the Registry cannot be asked: ${message}`
  return new Fault('REGISTRY_UNAVAILABLE', reason, { cause })
}
