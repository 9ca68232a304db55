#!/usr/bin/env bash
# A real Gitea for tests: data in a temporary folder, a free port of 127.0.0.1, SQLite, no accounts elsewhere, no mail, never as root.
#   scripts/servers.sh               starts it, prints its address and a token, and stops it at Ctrl-C
#   scripts/servers.sh COMMAND…      runs a command with HOOKMESH_TEST_GITEA and HOOKMESH_TEST_GITEA_TOKEN, and stops the server after it
# Gitea is built from its Go module, without its pages for browsers: some minutes, once. Needs Go, git, Python, curl and a C compiler.
# HOOKMESH_SERVERS_CACHE is where it is kept; user nobody must be able to read it, if you are root.
set -euo pipefail
gitea=1.26.0
cache=${HOOKMESH_SERVERS_CACHE:-${TMPDIR:-/tmp}/hookmesh-servers}
mkdir -p "$cache"
exec 9>"$cache/lock"
flock 9 # several may come at once

install_gitea() {
  local to=$cache/gitea-$gitea source
  [ -x "$to/gitea" ] && return
  echo "building Gitea $gitea" >&2
  local work
  work=$(mktemp -d)
  (
    cd "$work"
    export GOWORK=off GOFLAGS=-mod=mod
    go mod init servers >/dev/null 2>&1
    printf '//go:build tools\n\npackage tools\n\nimport _ "code.gitea.io/gitea"\n' >tools.go
    source=$(go mod download -json "code.gitea.io/gitea@v$gitea" | python3 -c 'import json, sys; print(json.load(sys.stdin)["Dir"])')
    # Replacements count in the main module only, so they are taken over from Gitea's.
    grep '^replace ' "$source/go.mod" | sed 's, *//.*,,' >>go.mod
    go get "code.gitea.io/gitea@v$gitea" >get.log 2>&1 || { cat get.log >&2; exit 1; }
    mkdir -p "$to.new"
    CGO_ENABLED=1 nice -n 15 go build -tags sqlite,sqlite_unlock_notify -ldflags "-s -w" -o "$to.new/gitea" code.gitea.io/gitea >&2
    cp -r "$source/options" "$source/templates" "$source/public" "$to.new/"
    chmod -R u+w,a+rX "$to.new"
  )
  rm -rf "$work" "$to" && mv "$to.new" "$to"
}

install_gitea
flock -u 9

dir=$(mktemp -d)
as=()
if [ "$(id -u)" = 0 ]; then # Gitea refuses to run as root
  chown nobody "$dir"
  as=(setpriv --reuid=nobody --regid=nogroup --clear-groups env HOME="$dir")
fi
servers=()
# shellcheck disable=SC2317 # the trap calls it
stop() {
  for p in "${servers[@]}"; do kill "$p" 2>/dev/null || true; done
  for p in "${servers[@]}"; do wait "$p" 2>/dev/null || true; done
  rm -rf "$dir"
}
trap stop EXIT
trap 'exit 130' INT TERM

free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }

# answers waits until a server of ours answers at an address.
answers() {
  local pid=$1 log=$2
  shift 2
  for _ in $(seq 600); do
    curl -sf -o /dev/null --max-time 5 "$@" && return
    kill -0 "$pid" 2>/dev/null || break
    sleep 0.2
  done
  echo "it does not answer: $*" >&2
  tail -50 "$log" >&2
  exit 1
}

start_gitea() {
  local port at=$cache/gitea-$gitea
  port=$(free_port)
  # Pages of three entries, so that a handful of documents fills several.
  "${as[@]}" tee "$dir/gitea.ini" >/dev/null <<INI
APP_NAME = tests
RUN_MODE = prod
WORK_PATH = $dir/gitea
[server]
PROTOCOL = http
HTTP_ADDR = 127.0.0.1
HTTP_PORT = $port
ROOT_URL = http://127.0.0.1:$port/
STATIC_ROOT_PATH = $at
DISABLE_SSH = true
OFFLINE_MODE = true
[database]
DB_TYPE = sqlite3
PATH = $dir/gitea/gitea.db
[security]
INSTALL_LOCK = true
PASSWORD_HASH_ALGO = pbkdf2_v1
[service]
DISABLE_REGISTRATION = true
[api]
MAX_RESPONSE_ITEMS = 3
DEFAULT_PAGING_NUM = 3
DEFAULT_GIT_TREES_PER_PAGE = 3
[webhook]
ALLOWED_HOST_LIST = loopback
[actions]
ENABLED = false
[cron.update_checker]
ENABLED = false
[log]
MODE = console
LEVEL = Warn
INI
  local run=("${as[@]}" env GITEA_WORK_DIR="$dir/gitea" "$at/gitea")
  "${as[@]}" mkdir -p "$dir/gitea"
  "${run[@]}" migrate -c "$dir/gitea.ini" >"$dir/gitea.log" 2>&1 || { cat "$dir/gitea.log" >&2; exit 1; }
  "${run[@]}" admin user create -c "$dir/gitea.ini" --admin --username ann --password "$(head -c 18 /dev/urandom | base64)" --email ann@example.test --must-change-password=false >>"$dir/gitea.log" 2>&1 ||
    { cat "$dir/gitea.log" >&2; exit 1; }
  HOOKMESH_TEST_GITEA_TOKEN=$("${run[@]}" admin user generate-access-token -c "$dir/gitea.ini" --username ann --token-name tests --scopes all --raw 2>>"$dir/gitea.log" | tail -1)
  "${run[@]}" web -c "$dir/gitea.ini" >>"$dir/gitea.log" 2>&1 &
  servers+=($!)
  export HOOKMESH_TEST_GITEA_TOKEN HOOKMESH_TEST_GITEA=http://127.0.0.1:$port
  answers $! "$dir/gitea.log" "$HOOKMESH_TEST_GITEA/api/v1/version"
}

start_gitea
if [ $# -gt 0 ]; then "$@"; else env | grep '^HOOKMESH_TEST_G' && wait; fi
