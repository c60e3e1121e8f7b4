import { type DatabasePlace, requireFreeDatabase } from './database-place.ts'
import { publicFault } from './lib/errors.ts'
import type { RegistryStore } from './store.ts'
import {
  mayMove,
  TENANT_STATUSES,
  type Tenant,
  type TenantId,
  type TenantIssuer,
  type TenantKey,
  type TenantMode,
  type TenantStatus,
} from './tenant.ts'
import { findListedTenant, type ListedTenant, listedTenant } from './tenant-list.ts'
import { parseTenantRow, TENANT_COLUMNS, type TenantRow } from './tenant-row.ts'

export type NewDb = Tenant['db']
export type NewBucket = NonNullable<Tenant['bucket']>

export interface NewTenant {
  /** Chosen by the caller: the secrets are bound to it. */
  readonly id: TenantId
  readonly key: TenantKey
  readonly name: string | null
  readonly mode: TenantMode
  readonly status: TenantStatus
  readonly db: NewDb
  readonly bucket: NewBucket | null
}

export interface PlacementOptions {
  /** Lets a tenant have a database that another tenant has: then they share their data. */
  readonly allowSharedDatabase?: boolean
}

type Store = Pick<RegistryStore, 'query' | 'transaction'>

/** A new tenant. The unique index on the key decides races; triggers set versions and notify. */
const CREATE = `
  INSERT INTO tenants (id, tenant_key, name, mode, status, db_host, db_port, db_name, db_user,
    db_password_encrypted, db_ssl_mode, db_pool_max, bucket_provider, bucket_endpoint, bucket_region,
    bucket_name, bucket_prefix, bucket_access_key_encrypted, bucket_secret_key_encrypted)
  VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19)
  RETURNING ${TENANT_COLUMNS}`

/**
 * Moves the status where the table of transitions allows it ($4), in one step, so that no race slips by. A
 * word that nobody knows ($5 are those we know) leads anywhere, or an older row could never be mended.
 */
const SET_STATUS = `
  UPDATE tenants SET status = $2, status_reason = $3
  WHERE id = $1 AND (status = ANY($4) OR NOT status = ANY($5))
  RETURNING ${TENANT_COLUMNS}, status_reason`

/**
 * New connection details, only onto the version that they were based on ($9). Without a password ($6) the one in the
 * row stays: a key rotation may have encrypted it anew since it was read, which moves no version.
 */
const SET_DB = `
  UPDATE tenants SET db_host = $2, db_port = $3, db_name = $4, db_user = $5,
    db_password_encrypted = coalesce($6, db_password_encrypted), db_ssl_mode = $7, db_pool_max = $8
  WHERE id = $1 AND config_version = $9
  RETURNING ${TENANT_COLUMNS}, status_reason`

/** New bucket, or none where $5 is null, only onto the version that it was based on ($9). */
const SET_BUCKET = `
  UPDATE tenants SET bucket_provider = $2, bucket_endpoint = $3, bucket_region = $4, bucket_name = $5,
    bucket_prefix = $6, bucket_access_key_encrypted = $7, bucket_secret_key_encrypted = $8
  WHERE id = $1 AND config_version = $9
  RETURNING ${TENANT_COLUMNS}, status_reason`

/** New identity provider, or none where $2 is null, only onto the version that it was based on ($5). */
const SET_ISSUER = `
  UPDATE tenants SET token_issuer = $2, token_jwks_url = $3, token_audience = $4
  WHERE id = $1 AND config_version = $5
  RETURNING ${TENANT_COLUMNS}, status_reason`

/** @throws Fault CONFLICT where the key, the id, the bucket or the database is taken; VALIDATION_FAILED */
export async function insertTenant(
  store: Store,
  tenant: NewTenant,
  options: PlacementOptions = {},
): Promise<Tenant> {
  const { db } = tenant
  const [row] = await placed(store, tenant.id, db, options, CREATE, [
    ...[tenant.id, tenant.key, tenant.name, tenant.mode, tenant.status],
    ...[db.host, db.port, db.name, db.user, db.passwordEncrypted, db.sslMode, db.poolMax],
    ...bucketValues(tenant.bucket),
  ])
  return parseTenantRow(row as TenantRow)
}

/**
 * @returns the tenant, changed or as it was; null where there is none
 * @throws Fault CONFLICT where its present status does not lead to `status`
 */
export async function writeStatus(
  store: Pick<Store, 'query'>,
  id: TenantId,
  status: TenantStatus,
  reason: string | null,
): Promise<ListedTenant | null> {
  const allowed = TENANT_STATUSES.filter(from => mayMove(from, status))
  const values = [id, status, reason, allowed, TENANT_STATUSES]
  const [moved] = await store.query(SET_STATUS, values)
  if (moved !== undefined) return listedTenant(moved)
  const present = await findListedTenant(store, id)
  if (present === null) return null
  throw publicFault('CONFLICT', `a tenant that is ${present.status} cannot become ${status}`)
}

/**
 * @param db with passwordEncrypted null: the present password stays
 * @param basedOn config_version of the tenant that the caller has seen
 * @throws Fault CONFLICT where it changed meanwhile, or where another tenant has the database
 */
export async function writeDb(
  store: Store,
  id: TenantId,
  db: Omit<NewDb, 'passwordEncrypted'> & { readonly passwordEncrypted: string | null },
  basedOn: number,
  options: PlacementOptions = {},
): Promise<ListedTenant | null> {
  const values = [db.host, db.port, db.name, db.user, db.passwordEncrypted, db.sslMode, db.poolMax]
  const rows = await placed(store, id, db, options, SET_DB, [id, ...values, basedOn])
  return basedOnVersion(store, rows, id)
}

/** As `writeDb`; null takes the bucket away. */
export async function writeBucket(
  store: Pick<Store, 'query'>,
  id: TenantId,
  bucket: NewBucket | null,
  basedOn: number,
): Promise<ListedTenant | null> {
  const values = [id, ...bucketValues(bucket), basedOn]
  return basedOnVersion(store, await store.query(SET_BUCKET, values), id)
}

/** As `writeDb`; null takes the identity provider away. @throws Fault CONFLICT also where another tenant has it */
export async function writeIssuer(
  store: Pick<Store, 'query'>,
  id: TenantId,
  issuer: TenantIssuer | null,
  basedOn: number,
): Promise<ListedTenant | null> {
  const own = [issuer?.issuer ?? null, issuer?.jwksUrl ?? null, issuer?.audience ?? null]
  return basedOnVersion(store, await store.query(SET_ISSUER, [id, ...own, basedOn]), id)
}

async function basedOnVersion(
  store: Pick<Store, 'query'>,
  rows: readonly TenantRow[],
  id: TenantId,
): Promise<ListedTenant | null> {
  const [changed] = rows
  if (changed !== undefined) return listedTenant(changed)
  if ((await findListedTenant(store, id)) === null) return null
  throw publicFault('CONFLICT', 'the tenant was changed by someone else meanwhile; try again')
}

/** A statement that gives tenant `id` the database `db`, unless another tenant has it. */
async function placed(
  store: Store,
  id: TenantId,
  place: DatabasePlace,
  { allowSharedDatabase = false }: PlacementOptions,
  text: string,
  values: readonly unknown[],
): Promise<readonly TenantRow[]> {
  if (allowSharedDatabase) return store.query(text, values)
  return store.transaction(async client => {
    await requireFreeDatabase(client, id, place)
    return (await client.query<TenantRow>(text, [...values])).rows
  })
}

function bucketValues(bucket: NewBucket | null): readonly (string | null)[] {
  if (bucket === null) return [null, null, null, null, null, null, null]
  const { provider, endpoint, region, name, prefix, accessKeyEncrypted, secretKeyEncrypted } =
    bucket
  return [provider, endpoint, region, name, prefix, accessKeyEncrypted, secretKeyEncrypted]
}
