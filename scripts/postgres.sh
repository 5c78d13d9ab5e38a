#!/usr/bin/env bash
# A PostgreSQL server of its own for tests and trials, on 127.0.0.1 and a free port.
# usage: bash scripts/postgres.sh start DIR    prints the URI of its database, with its password
#        bash scripts/postgres.sh stop DIR     stops it and removes what start made
#
# PostgreSQL refuses to run as root; then it runs as the user postgres, which Debian's package makes,
# or nobody, and DIR must be a place that this user can reach.
set -euo pipefail

usage() {
    sed -n '2,4s/^# //p' "$0" >&2
    exit 2
}

[ $# = 2 ] || usage
action=$1 folder=$(realpath -m "$2")

find_bin() {
    local candidate
    for candidate in $(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | sort -Vr); do
        [ -x "$candidate/initdb" ] && [ -x "$candidate/pg_ctl" ] && echo "$candidate" && return
    done
    candidate=$(command -v initdb) && dirname "$(readlink -f "$candidate")" && return
    echo "postgres.sh: PostgreSQL is not installed; run . scripts/setup.sh, or apt-get install postgresql" >&2
    return 1
}

as_user() {
    if [ "$(id -u)" != 0 ]; then
        "$@"
    elif id postgres >/dev/null 2>&1; then
        (cd / && runuser -u postgres -- "$@")
    else
        (cd / && runuser -u nobody -- "$@")
    fi
}

free_port() {
    python3 -c 'import socket
with socket.socket() as s:
    s.bind(("127.0.0.1", 0))
    print(s.getsockname()[1])'
}

start() {
    local bin port password
    bin=$(find_bin)
    [ ! -e "$folder/data" ] || { echo "postgres.sh: $folder/data exists; stop that server first" >&2; exit 1; }
    password=$(python3 -c 'import secrets; print(secrets.token_hex(16))')
    mkdir -p "$folder"
    (umask 077 && echo "$password" > "$folder/password")
    if [ "$(id -u)" = 0 ]; then
        chown -R "$(id -u postgres 2>/dev/null || id -u nobody)" "$folder"
    fi
    as_user "$bin/initdb" -D "$folder/data" -U recsys -A scram-sha-256 --pwfile "$folder/password" \
        -E UTF8 --locale C.UTF-8 > "$folder/log" 2>&1 || { cat "$folder/log" >&2; exit 1; }
    for attempt in 1 2 3; do # somebody may take the port first
        port=$(free_port)
        if as_user "$bin/pg_ctl" -D "$folder/data" -l "$folder/data/server.log" -w -t 60 \
            -o "-h 127.0.0.1 -p $port -c unix_socket_directories= -c fsync=off" start >> "$folder/log" 2>&1
        then
            echo "postgresql+psycopg2://recsys:$password@127.0.0.1:$port/postgres"
            return
        fi
    done
    cat "$folder/log" "$folder/data/server.log" >&2
    exit 1
}

stop() {
    [ -e "$folder/data/PG_VERSION" ] || { echo "postgres.sh: no server in $folder" >&2; exit 1; }
    if [ -e "$folder/data/postmaster.pid" ]; then
        as_user "$(find_bin)/pg_ctl" -D "$folder/data" -m immediate -w stop > /dev/null
    fi
    rm -rf "$folder/data" "$folder/password" "$folder/log"
    rmdir --ignore-fail-on-non-empty "$folder"
}

case $action in
    start) start ;;
    stop) stop ;;
    *) usage ;;
esac
