#!/bin/sh
# Entrypoint of a container: `deploy/entrypoint.sh node gateway/main.ts`, in the repository's root.
#
# MIGRATE_ON_START: `true` migrates the Registry, then the tenants that are behind, and starts; `background` starts
# once the Registry is done, and the tenants follow (set TENANT_SCHEMA_MIN, and each is served from when it is ready).
# Containers that start together do not wait for each other: one of them works on the tenants. A tenant that fails
# stops neither the others nor the container; a Registry that fails does, for nothing can be served without it.
set -u

child=
is_stopping=
stop() {
  is_stopping=1
  [ -z "$child" ] || kill -TERM "$child" 2>/dev/null
}
trap stop TERM INT

# The shell is process 1 meanwhile: it must hear a signal itself and pass it on.
run() {
  "$@" &
  child=$!
  wait "$child"
  code=$?
  # A signal ends the first wait; the second is for the child.
  if [ -n "$is_stopping" ]; then
    wait "$child"
    exit 143
  fi
  child=
  return "$code"
}

tenants='node migrations/tenant-migrate.ts --if-idle --laggards'

case "${MIGRATE_ON_START:-false}" in
  false | 0) ;;
  true | 1 | background)
    run node migrations/registry-migrate.ts >&2 || exit 1
    if [ "$MIGRATE_ON_START" = background ]; then
      # Of its own parent's making, which ends: the orphan is process 1's to reap, and not the gateway's, which would not.
      ($tenants >&2 &)
    else
      run $tenants >&2 || echo "entrypoint: tenants are not all migrated; starting all the same" >&2
    fi
    ;;
  *)
    echo 'entrypoint: MIGRATE_ON_START must be false, true or background' >&2
    exit 2
    ;;
esac

trap - TERM INT
exec "$@"
