#!/bin/bash
# As upstream's: a new volume is initialised, and the scripts of /docker-entrypoint-initdb.d run against a server on the socket alone.
set -eu
[ "${1:0:1}" != "-" ] || set -- postgres "$@"
if [ "$1" != postgres ]; then exec "$@"; fi
mkdir -p "$PGDATA"
chmod 700 "$PGDATA"
if [ ! -s "$PGDATA/PG_VERSION" ]; then
    initdb --username=postgres --pwfile=<(cat "${POSTGRES_PASSWORD_FILE:?POSTGRES_PASSWORD_FILE names the file of the password}") --encoding=UTF8 --locale=C.UTF-8 --auth-host=scram-sha-256 --auth-local=trust >/dev/null
    echo "host all all all scram-sha-256" >>"$PGDATA/pg_hba.conf"
    pg_ctl --silent --wait -o "-c listen_addresses=''" start
    for script in /docker-entrypoint-initdb.d/*.sh; do
        [ -f "$script" ] || continue
        echo "running $script"
        bash "$script"
    done
    pg_ctl --silent --wait --mode fast stop
fi
exec "$@" -c listen_addresses='*'
