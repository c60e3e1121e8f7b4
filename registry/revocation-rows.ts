import type { RegistryStore } from './store.ts'
import { NIL_ID, type TenantId } from './tenant.ts'
import type { TenantRow } from './tenant-row.ts'
import type { Revocation } from './token-id.ts'

type Store = Pick<RegistryStore, 'query'>

const REVOCATIONS_PAGE = 5000
/** Rows of expired tokens taken away at each write, more than one write brings. */
const PRUNE_MAX = 1000

/**
 * "Sign everyone out". It never goes back, and not by a clock of the gateways: tokens_valid_after in
 * the future, which somebody may have meant, stays.
 */
const REVOKE_SESSIONS = `
  UPDATE tenants SET tokens_valid_after = greatest(tokens_valid_after, clock_timestamp())
  WHERE id = $1
  RETURNING tokens_valid_after`

/**
 * Refuses tokens, and takes away up to $4 rows of tokens that expired long ago: the table so stays as
 * large as what is alive. Twice the same row is one, and no news unless it lasts longer. In the order of
 * the key, so that two writers of the same rows do not wait for each other in a circle.
 */
const REVOKE_TOKENS = `
  WITH over AS (
    DELETE FROM revoked_tokens WHERE (tenant_id, token_id) IN (
      SELECT tenant_id, token_id FROM revoked_tokens
      WHERE expires_at < now() - interval '1 hour' ORDER BY expires_at LIMIT $4
      FOR UPDATE SKIP LOCKED)
  )
  INSERT INTO revoked_tokens AS present (tenant_id, token_id, expires_at)
  SELECT tenant_id, token_id, to_timestamp(expires_at_s)
  FROM unnest($1::uuid[], $2::text[], $3::float8[]) AS new (tenant_id, token_id, expires_at_s)
  ORDER BY tenant_id, token_id
  ON CONFLICT (tenant_id, token_id) DO UPDATE SET expires_at = excluded.expires_at
    WHERE present.expires_at < excluded.expires_at`

/** A gateway reads all of them at its start and after a gap, page by page in the order of the key. */
const LIST_REVOKED_TOKENS = `
  SELECT tenant_id, token_id, ceil(extract(epoch FROM expires_at)) AS expires_at_s
  FROM revoked_tokens
  WHERE (tenant_id, token_id) > ($1::uuid, $2::text)
    AND expires_at > now() - interval '5 minutes'
  ORDER BY tenant_id, token_id LIMIT $3`

/**
 * "Sign everyone out": tokens of the tenant issued before now are refused, on every gateway within a
 * second. `iat` counts whole seconds, so a token issued later in this same second is refused too.
 *
 * @returns from when on tokens are good; null where there is no such tenant
 */
export async function revokeSessions(store: Store, id: TenantId): Promise<Date | null> {
  const [row] = await store.query(REVOKE_SESSIONS, [id])
  return row === undefined ? null : (row.tokens_valid_after as Date)
}

/** Refuses single tokens until they expire. Repeating it is harmless; it cannot be taken back. */
export async function revokeTokens(
  store: Store,
  revocations: readonly Revocation[],
): Promise<void> {
  await store.query(REVOKE_TOKENS, [
    revocations.map(({ tenantId }) => tenantId),
    revocations.map(({ tokenId }) => tokenId),
    revocations.map(({ expiresAtS }) => expiresAtS),
    PRUNE_MAX,
  ])
}

/** All revoked tokens that are not over, page by page. */
export async function* revokedTokens(
  store: Store,
): AsyncGenerator<readonly Revocation[], void, undefined> {
  let after: readonly [string, string] = [NIL_ID, '']
  for (;;) {
    const rows = await store.query(LIST_REVOKED_TOKENS, [...after, REVOCATIONS_PAGE])
    const page = rows.map(readRevocation)
    yield page
    const last = page.at(-1)
    if (last === undefined || page.length < REVOCATIONS_PAGE) return
    after = [last.tenantId, last.tokenId]
  }
}

export function readRevocation(row: TenantRow): Revocation {
  return {
    tenantId: row.tenant_id as TenantId,
    tokenId: String(row.token_id),
    expiresAtS: Number(row.expires_at_s),
  }
}
