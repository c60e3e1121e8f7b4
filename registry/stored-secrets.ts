import { SECRET_COLUMNS, type SecretColumn } from './envelope.ts'
import type { RegistryStore } from './store.ts'
import { NIL_ID } from './tenant.ts'
import type { TenantRow } from './tenant-row.ts'

/** What is encrypted of one tenant, as it stands in its row. */
export type TenantSecrets = {
  readonly id: string
  readonly tenant_key: string
} & Readonly<Record<SecretColumn, string | null>>

/** A secret of the Registry with the place that it is bound to. */
export interface StoredSecret {
  readonly owner: string
  readonly ciphertext: string
}

/** Secrets under one master key. */
export interface KeyUse {
  /** null: the format of the older tool, which names no key. */
  readonly keyId: string | null
  readonly secrets: number
  readonly tenants: number
}

type Store = Pick<RegistryStore, 'query'>

const PAGE = 500

/**
 * Every secret of every tenant, of every database host and of every tenant that is being made, one to a row; also a password that is on its way into a
 * tenant's row, which no rotation of the master key touches: it ends there within a minute, or when it is settled.
 */
const SECRETS = `
  SELECT id, CASE WHEN ciphertext ~ '^v1[.][0-9a-f]{16}[.]' THEN substr(ciphertext, 4, 16) END AS key_id
  FROM (
    SELECT t.id, s.ciphertext FROM tenants t, unnest(ARRAY[t.db_password_encrypted::text,
      t.bucket_access_key_encrypted::text, t.bucket_secret_key_encrypted::text]) AS s (ciphertext)
    UNION ALL SELECT tenant_id, db_password_encrypted FROM tenant_rotations
    UNION ALL SELECT NULL, admin_password_encrypted FROM database_hosts
    UNION ALL SELECT NULL, first_user_hash_encrypted FROM provisioning_runs
  ) AS secrets WHERE ciphertext <> ''`

/** Which master keys are in use, by how many secrets; key_id is null for the format of the older tool. */
const COUNT_SECRETS = `
  SELECT key_id, count(*)::int AS secrets, count(DISTINCT id)::int AS tenants FROM (${SECRETS}) AS found
  GROUP BY key_id ORDER BY key_id NULLS LAST`

/**
 * One page of secrets in the order of ids, after $1: of all tenants, or where $2 is given ('v1.<key id>.') of those
 * with a secret that does not begin with it. Primary key.
 */
const LIST_SECRETS = `
  SELECT id, tenant_key::text, db_password_encrypted::text, bucket_access_key_encrypted::text,
    bucket_secret_key_encrypted::text
  FROM tenants
  WHERE id > $1 AND ($2::text IS NULL
    OR (db_password_encrypted <> '' AND NOT starts_with(db_password_encrypted::text, $2))
    OR (bucket_access_key_encrypted <> '' AND NOT starts_with(bucket_access_key_encrypted::text, $2))
    OR (bucket_secret_key_encrypted <> '' AND NOT starts_with(bucket_secret_key_encrypted::text, $2)))
  ORDER BY id LIMIT $3`

/** To be the first statement of REWRAP's transaction: two rotations take turns, and the trigger knows what it sees. */
const BEGIN_REWRAP = `
  SELECT pg_advisory_xact_lock(hashtextextended('doorman rewrap', 0)),
    set_config('doorman.rewrap', 'on', true)`

/**
 * The same secrets under another master key. Only where all three stand as they were read ($2 to $4), so that an
 * edit that came between is never lost; such a row is found again by the next pass.
 */
const REWRAP = `
  UPDATE tenants t SET db_password_encrypted = n.password,
    bucket_access_key_encrypted = n.access_key, bucket_secret_key_encrypted = n.secret_key
  FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[])
    AS n (id, old_password, old_access_key, old_secret_key, password, access_key, secret_key)
  WHERE t.id = n.id
    AND t.db_password_encrypted::text IS NOT DISTINCT FROM n.old_password
    AND t.bucket_access_key_encrypted::text IS NOT DISTINCT FROM n.old_access_key
    AND t.bucket_secret_key_encrypted::text IS NOT DISTINCT FROM n.old_secret_key
  RETURNING t.id`

/** A master key's end, unless a secret is of it; one of the older tool's format may be of any key. */
const RETIRE_KEY = `
  DELETE FROM doorman_key_check WHERE key_id = $1
    AND NOT EXISTS (SELECT FROM (${SECRETS}) AS found WHERE key_id = $1 OR key_id IS NULL)
  RETURNING key_id`

/** At start on a Registry without a key check: a few secrets to try the master key on. */
const SAMPLE_SECRETS = `
  SELECT id, db_password_encrypted AS ciphertext FROM tenants
  WHERE db_password_encrypted <> '' ORDER BY config_version DESC LIMIT $1`

/** Which master keys are in use. */
export async function countSecrets(store: Store): Promise<readonly KeyUse[]> {
  const rows = await store.query(COUNT_SECRETS, [])
  return rows.map(({ key_id, secrets, tenants }) => ({
    keyId: key_id === null ? null : String(key_id),
    secrets: Number(secrets),
    tenants: Number(tenants),
  }))
}

/**
 * Tenants with what is encrypted of them, in the order of their ids, page by page.
 *
 * @param notOf only those with a secret that is not of this key
 */
export async function* tenantSecrets(
  store: Store,
  notOf: string | null,
  pageRows = PAGE,
): AsyncGenerator<readonly TenantSecrets[], void, undefined> {
  let after = NIL_ID
  for (;;) {
    const prefix = notOf === null ? null : `v1.${notOf}.`
    const rows = await store.query(LIST_SECRETS, [after, prefix, pageRows])
    if (rows.length > 0) yield rows as unknown as readonly TenantSecrets[]
    if (rows.length < pageRows) return
    after = String(rows.at(-1)?.id)
  }
}

/**
 * Puts the same secrets, encrypted anew, in the place of what was read. No change of the tenants: versions stay.
 *
 * @param pairs as read, and as they are to be, row by row
 * @returns how many took it; the others were changed meanwhile and stand as they are
 */
export async function replaceSecrets(
  store: Pick<RegistryStore, 'transaction'>,
  pairs: readonly (readonly [was: TenantSecrets, is: TenantSecrets])[],
): Promise<number> {
  const column = (pick: (pair: (typeof pairs)[number]) => string | null) => pairs.map(pick)
  const values = [
    column(([was]) => was.id),
    ...SECRET_COLUMNS.map(name => column(([was]) => was[name])),
    ...SECRET_COLUMNS.map(name => column(([, is]) => is[name])),
  ]
  const rows = await store.transaction(async client => {
    await client.query(BEGIN_REWRAP)
    return (await client.query<TenantRow>(REWRAP, values)).rows
  })
  return rows.length
}

/** Takes a master key's check row away. @returns false where a secret is of it, or where it has none */
export async function retireKey(store: Store, keyId: string): Promise<boolean> {
  return (await store.query(RETIRE_KEY, [keyId])).length > 0
}

/** Some `db_password_encrypted`, newest rows first. */
export async function sampleSecrets(store: Store, count: number): Promise<readonly StoredSecret[]> {
  const rows = await store.query(SAMPLE_SECRETS, [count])
  return rows.map(row => ({ owner: String(row.id), ciphertext: String(row.ciphertext) }))
}
