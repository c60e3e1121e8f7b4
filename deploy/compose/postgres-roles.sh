#!/bin/sh
# Run once by the image of PostgreSQL, on an empty volume: the Registry's role and database, and the role that makes
# tenants' databases (`tenant host-add`). Neither is a superuser.
set -eu
psql -v ON_ERROR_STOP=1 --username "${POSTGRES_USER:-postgres}" --dbname postgres \
  --set registry="$(cat "${SECRETS_DIR:-/run/secrets}/registry_password")" \
  --set tenants_admin="$(cat "${SECRETS_DIR:-/run/secrets}/tenants_admin_password")" <<'SQL'
CREATE ROLE registry LOGIN PASSWORD :'registry';
CREATE DATABASE registry OWNER registry;
REVOKE CONNECT ON DATABASE registry FROM PUBLIC;
CREATE ROLE tenants_admin LOGIN CREATEROLE CREATEDB PASSWORD :'tenants_admin';
SQL
