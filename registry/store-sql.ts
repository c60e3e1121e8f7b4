import { TENANT_COLUMNS } from './tenant-row.ts'

/** Every statement that the gateway, the CLI and the runner send to the Registry. */

/** Resolve, by the claim of a token. Primary key; expected below 1 ms. */
export const FIND_BY_ID = `SELECT ${TENANT_COLUMNS} FROM tenants WHERE id = $1`

/**
 * Resolve, by the key of a login. Index tenants_key_lower. Older rows may differ only in case: the
 * one in lower case wins, so that the answer is always the same.
 */
export const FIND_BY_KEY = `
  SELECT ${TENANT_COLUMNS} FROM tenants WHERE lower(tenant_key::text) = $1
  ORDER BY (tenant_key::text = $1) DESC, id LIMIT 1`

/** Resolve, by the claim `iss` of a token that is not the platform's. Index tenants_token_issuer_unique. */
export const FIND_BY_ISSUER = `SELECT ${TENANT_COLUMNS} FROM tenants WHERE token_issuer = $1`

/** The CLI's look-up of one tenant, fit to be served or not, by id. Primary key. */
export const FIND_LISTED_BY_ID = `
  SELECT ${TENANT_COLUMNS}, status_reason FROM tenants WHERE id = $1`

/** The same by key, in whatever case it stands there. Index tenants_key_lower. */
export const FIND_LISTED_BY_KEY = `
  SELECT ${TENANT_COLUMNS}, status_reason FROM tenants WHERE lower(tenant_key::text) = $1
  ORDER BY (tenant_key::text = $1) DESC, id LIMIT 1`

/**
 * Holds that a gateway may not have heard of, or whose end it may have missed. The table is as small as the
 * operators' work of the last hour, so that no cursor is needed: a notice that is old news does nothing.
 */
const RECENT_HOLDS = `
    (SELECT coalesce(json_agg(h), '[]') FROM (
      SELECT tenant_id AS tenant, hold_id AS hold, seq, CASE WHEN released_at IS NULL
        THEN greatest(0, ceil(extract(epoch FROM expires_at - clock_timestamp()) * 1000))
        ELSE 0 END AS rest_ms
      FROM tenant_holds WHERE expires_at > now() - interval '5 minutes'
    ) AS h) AS holds`

/**
 * The watch's second net, every 5 s. Index tenants_changed_xid, tenant_tombstones_changed_xid,
 * revoked_tokens_changed_xid.
 *
 * Gap-free and without repeats: the cursor is the snapshot of the last read, and what that snapshot did
 * not see is exactly what is new, in whatever order versions were drawn and transactions committed. The
 * upper bound is for rows restored from another cluster, whose ids may be of this one's future.
 */
export const CHANGED_SINCE = `
  SELECT pg_current_snapshot()::text AS cursor,
    pg_snapshot_xmax(pg_current_snapshot()) < pg_snapshot_xmax($1::pg_snapshot) AS is_back_in_time,
    (SELECT coalesce(json_agg(c), '[]') FROM (
      SELECT id, key, config_version::text AS version, op FROM (
        SELECT id, tenant_key::text AS key, config_version, changed_xid, 'update' AS op FROM tenants
          WHERE changed_xid >= pg_snapshot_xmin($1::pg_snapshot)
        UNION ALL
        SELECT id, tenant_key, config_version, changed_xid, 'delete' FROM tenant_tombstones
          WHERE changed_xid >= pg_snapshot_xmin($1::pg_snapshot)
      ) AS changed
      WHERE changed_xid < pg_snapshot_xmax(pg_current_snapshot())
        AND NOT pg_visible_in_snapshot(changed_xid, $1::pg_snapshot)
      ORDER BY config_version LIMIT $2
    ) AS c) AS changes,
    (SELECT coalesce(json_agg(r), '[]') FROM (
      SELECT tenant_id, token_id, ceil(extract(epoch FROM expires_at)) AS expires_at_s
      FROM revoked_tokens
      WHERE changed_xid >= pg_snapshot_xmin($1::pg_snapshot)
        AND changed_xid < pg_snapshot_xmax(pg_current_snapshot())
        AND NOT pg_visible_in_snapshot(changed_xid, $1::pg_snapshot)
      LIMIT $3
    ) AS r) AS revocations,${RECENT_HOLDS}`

/** Where the watch begins. */
export const CURRENT_SNAPSHOT = `
  SELECT pg_current_snapshot()::text AS cursor,${RECENT_HOLDS}`

/** One page of the CLI's list and of the fleet runner. $1 after which key, $2 mode, $3 status. */
export const LIST = `
  SELECT ${TENANT_COLUMNS}, status_reason FROM tenants
  WHERE ($1::text IS NULL OR tenant_key::text > $1)
    AND ($2::text IS NULL OR mode = $2) AND ($3::text IS NULL OR status = $3)
  ORDER BY tenant_key::text LIMIT $4`

/** A new tenant. The unique index on the key decides races; triggers set versions and notify. */
export const CREATE = `
  INSERT INTO tenants (id, tenant_key, name, mode, status, db_host, db_port, db_name, db_user,
    db_password_encrypted, db_ssl_mode, db_pool_max, bucket_provider, bucket_endpoint, bucket_region,
    bucket_name, bucket_prefix, bucket_access_key_encrypted, bucket_secret_key_encrypted)
  VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19)
  RETURNING ${TENANT_COLUMNS}`

/** The database of a row as two rows can be compared; another name of the same host goes unnoticed. */
const DATABASE_PLACE = 'lower(db_host), coalesce(db_port, 5432), db_name'

/** Two operators who take the same database at once wait for each other. $1 host:port/name. */
export const LOCK_DATABASE =
  "SELECT pg_advisory_xact_lock(hashtextextended('doorman database ' || lower($1), 0))"

/**
 * Under that lock: who has the database $2, $3, $4 already, where tenant $1 does not have it itself by
 * now (a row of an older Registry must take a new password all the same). Reads the whole table: a few
 * milliseconds at ten thousand tenants, and only when an operator places a tenant.
 */
export const FIND_DATABASE_OWNER = `
  SELECT id, tenant_key FROM tenants WHERE (${DATABASE_PLACE}) = (lower($2), $3::int, $4)
  ORDER BY id = $1 DESC, tenant_key LIMIT 1`

/** For the CLI's list: tenants that name the same database as another one. */
export const SHARED_DATABASES = `
  SELECT id FROM (
    SELECT id, count(*) OVER (PARTITION BY ${DATABASE_PLACE}) AS tenants FROM tenants
    WHERE db_host IS NOT NULL AND db_name IS NOT NULL
  ) AS placed WHERE tenants > 1`

/**
 * Moves the status where the table of transitions allows it ($4), in one step, so that no race slips by. A
 * word that nobody knows ($5 are those we know) leads anywhere, or an older row could never be mended.
 */
export const SET_STATUS = `
  UPDATE tenants SET status = $2, status_reason = $3
  WHERE id = $1 AND (status = ANY($4) OR NOT status = ANY($5))
  RETURNING ${TENANT_COLUMNS}, status_reason`

/**
 * New connection details, only onto the version that they were based on ($9). Without a password ($6) the one in the
 * row stays: a key rotation may have encrypted it anew since it was read, which moves no version.
 */
export const SET_DB = `
  UPDATE tenants SET db_host = $2, db_port = $3, db_name = $4, db_user = $5,
    db_password_encrypted = coalesce($6, db_password_encrypted), db_ssl_mode = $7, db_pool_max = $8
  WHERE id = $1 AND config_version = $9
  RETURNING ${TENANT_COLUMNS}, status_reason`

/** New bucket, or none where $5 is null, only onto the version that it was based on ($9). */
export const SET_BUCKET = `
  UPDATE tenants SET bucket_provider = $2, bucket_endpoint = $3, bucket_region = $4, bucket_name = $5,
    bucket_prefix = $6, bucket_access_key_encrypted = $7, bucket_secret_key_encrypted = $8
  WHERE id = $1 AND config_version = $9
  RETURNING ${TENANT_COLUMNS}, status_reason`

/** New identity provider, or none where $2 is null, only onto the version that it was based on ($5). */
export const SET_ISSUER = `
  UPDATE tenants SET token_issuer = $2, token_jwks_url = $3, token_audience = $4
  WHERE id = $1 AND config_version = $5
  RETURNING ${TENANT_COLUMNS}, status_reason`

/**
 * After tenant migrations. It moves config_version like any other change, for gateways act on the schema
 * version; where it is the same already nothing is written. $1 ids, $2 versions.
 */
export const SET_SCHEMA_VERSIONS = `
  UPDATE tenants SET schema_version = new.version
  FROM unnest($1::uuid[], $2::text[]) AS new (id, version)
  WHERE tenants.id = new.id AND tenants.schema_version IS DISTINCT FROM new.version`

/**
 * The fleet runner's notes, some hundred at a time, and none of a tenant that is gone. A run that had nothing
 * to do leaves the note of the one that did. In the order of the key, so that two runners do not wait in a circle.
 */
export const NOTE_MIGRATIONS = `
  INSERT INTO tenant_migrations AS present
    (tenant_id, version, state, error, attempts, applied, started_at, duration_ms, run_id)
  SELECT new.* FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::int[], $6::int[],
    $7::timestamptz[], $8::int[], $9::uuid[])
    AS new (tenant_id, version, state, error, attempts, applied, started_at, duration_ms, run_id)
  WHERE EXISTS (SELECT FROM tenants WHERE tenants.id = new.tenant_id)
  ORDER BY tenant_id
  ON CONFLICT (tenant_id) DO UPDATE SET state = excluded.state, error = excluded.error,
    version = CASE WHEN excluded.state = 'ok' THEN excluded.version
      ELSE coalesce(excluded.version, present.version) END,
    attempts = excluded.attempts, applied = excluded.applied, started_at = excluded.started_at,
    duration_ms = excluded.duration_ms, run_id = excluded.run_id, updated_at = now()
  WHERE excluded.applied > 0 OR excluded.state <> 'ok'
    OR (present.state, present.version) IS DISTINCT FROM (excluded.state, excluded.version)`

/** Of those notes what failed, kept for as long as its run is; a batch that is written again adds nothing. */
export const ADD_MIGRATION_FAILURES = `
  INSERT INTO migration_failures (run_id, tenant_id, version, code, error, attempts)
  SELECT run_id, tenant_id, version, coalesce(code, 'UNKNOWN'), coalesce(error, ''), attempts
  FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::text[], $6::text[], $7::int[])
    AS new (run_id, tenant_id, version, state, code, error, attempts)
  WHERE state = 'failed' AND EXISTS (SELECT FROM migration_runs WHERE id = new.run_id)
  ORDER BY tenant_id
  ON CONFLICT (run_id, tenant_id) DO NOTHING`

/** Status of the fleet, one page. $1 after which key. */
export const LIST_MIGRATIONS = `
  SELECT id, tenant_key, mode, status, schema_version, state, error, attempts, applied, started_at,
    duration_ms FROM tenants LEFT JOIN tenant_migrations ON tenant_id = id
  WHERE $1::text IS NULL OR tenant_key::text > $1
  ORDER BY tenant_key::text LIMIT $2`

/** At the begin of a run: notes of tenants that were deleted. */
export const PRUNE_MIGRATIONS = `
  DELETE FROM tenant_migrations
  WHERE NOT EXISTS (SELECT FROM tenants WHERE tenants.id = tenant_migrations.tenant_id)`

/**
 * "Sign everyone out". It never goes back, and not by a clock of the gateways: tokens_valid_after in
 * the future, which somebody may have meant, stays.
 */
export const REVOKE_SESSIONS = `
  UPDATE tenants SET tokens_valid_after = greatest(tokens_valid_after, clock_timestamp())
  WHERE id = $1
  RETURNING tokens_valid_after`

/**
 * Refuses tokens, and takes away up to $4 rows of tokens that expired long ago: the table so stays as
 * large as what is alive. Twice the same row is one, and no news unless it lasts longer. In the order of
 * the key, so that two writers of the same rows do not wait for each other in a circle.
 */
export const REVOKE_TOKENS = `
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
export const LIST_REVOKED_TOKENS = `
  SELECT tenant_id, token_id, ceil(extract(epoch FROM expires_at)) AS expires_at_s
  FROM revoked_tokens
  WHERE (tenant_id, token_id) > ($1::uuid, $2::text)
    AND expires_at > now() - interval '5 minutes'
  ORDER BY tenant_id, token_id LIMIT $3`

/** At start: does the master key fit? Newest first; bounded, though there is one row per key. */
export const READ_KEY_CHECKS =
  'SELECT key_id, ciphertext FROM doorman_key_check ORDER BY created_at DESC LIMIT 100'

/** First start with a master key. */
export const WRITE_KEY_CHECK =
  'INSERT INTO doorman_key_check (key_id, ciphertext) VALUES ($1, $2) ON CONFLICT DO NOTHING'

/** At start on a Registry without a key check: a few secrets to try the master key on. */
export const SAMPLE_SECRETS = `
  SELECT id, db_password_encrypted AS ciphertext FROM tenants
  WHERE db_password_encrypted <> '' ORDER BY config_version DESC LIMIT $1`

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
export const COUNT_SECRETS = `
  SELECT key_id, count(*)::int AS secrets, count(DISTINCT id)::int AS tenants FROM (${SECRETS}) AS found
  GROUP BY key_id ORDER BY key_id NULLS LAST`

/**
 * One page of secrets in the order of ids, after $1: of all tenants, or where $2 is given ('v1.<key id>.') of those
 * with a secret that does not begin with it. Primary key.
 */
export const LIST_SECRETS = `
  SELECT id, tenant_key::text, db_password_encrypted::text, bucket_access_key_encrypted::text,
    bucket_secret_key_encrypted::text
  FROM tenants
  WHERE id > $1 AND ($2::text IS NULL
    OR (db_password_encrypted <> '' AND NOT starts_with(db_password_encrypted::text, $2))
    OR (bucket_access_key_encrypted <> '' AND NOT starts_with(bucket_access_key_encrypted::text, $2))
    OR (bucket_secret_key_encrypted <> '' AND NOT starts_with(bucket_secret_key_encrypted::text, $2)))
  ORDER BY id LIMIT $3`

/** To be the first statement of REWRAP's transaction: two rotations take turns, and the trigger knows what it sees. */
export const BEGIN_REWRAP = `
  SELECT pg_advisory_xact_lock(hashtextextended('doorman rewrap', 0)),
    set_config('doorman.rewrap', 'on', true)`

/**
 * The same secrets under another master key. Only where all three stand as they were read ($2 to $4), so that an
 * edit that came between is never lost; such a row is found again by the next pass.
 */
export const REWRAP = `
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
export const RETIRE_KEY = `
  DELETE FROM doorman_key_check WHERE key_id = $1
    AND NOT EXISTS (SELECT FROM (${SECRETS}) AS found WHERE key_id = $1 OR key_id IS NULL)
  RETURNING key_id`
