-- Who has a database already is asked whenever a tenant gets one (registry/store-sql.ts, FIND_DATABASE_OWNER): without
-- an index that read every tenant, and ten thousand of them took minutes to bring in.
CREATE INDEX IF NOT EXISTS tenants_database_place
  ON tenants (lower(db_host), coalesce(db_port, 5432), db_name);
