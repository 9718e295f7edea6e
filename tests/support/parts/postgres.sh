#!/bin/sh
# POSTGRES_USER, POSTGRES_PASSWORD, POSTGRES_DB: as in the official image they are those of a new cluster. While that is
# made, its server listens on the Unix socket alone, and ends again.
set -eu
install -d -m 0700 -o postgres -g postgres "$PGDATA"
install -d -o postgres -g postgres /var/run/postgresql
as_postgres() { setpriv --reuid=postgres --regid=postgres --init-groups "$@"; }
if [ ! -s "$PGDATA/PG_VERSION" ]; then
    password=$(mktemp)
    printf '%s\n' "${POSTGRES_PASSWORD:?}" >"$password"
    chown postgres "$password"
    as_postgres initdb --username="${POSTGRES_USER:?}" --pwfile="$password" --auth-local=trust \
        --auth-host=scram-sha-256 --encoding=UTF8
    rm "$password"
    echo "host all all all scram-sha-256" >>"$PGDATA/pg_hba.conf"
    as_postgres pg_ctl start -w -o "-c listen_addresses="
    as_postgres createdb --username="$POSTGRES_USER" "${POSTGRES_DB:-$POSTGRES_USER}"
    as_postgres pg_ctl stop -w -m fast
fi
exec setpriv --reuid=postgres --regid=postgres --init-groups "$@" -c 'listen_addresses=*'
