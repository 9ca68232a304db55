#!/usr/bin/env bash
# A real Gitea and a real Ghost for tests: data in a temporary folder, free ports of 127.0.0.1, SQLite, no accounts elsewhere, no mail, never as root.
#   scripts/servers.sh               starts them, prints their addresses and keys, and stops them at Ctrl-C
#   scripts/servers.sh COMMAND…      runs a command with HOOKMESH_TEST_GITEA, HOOKMESH_TEST_GHOST, … and stops the servers after it
# HOOKMESH_SERVERS=gitea (or ghost) takes one of them. Gitea is built from its Go module, without its pages for browsers: some minutes, once.
# Ghost comes from npm with its own lock file, and a Node.js of the version that it wants; its SQLite is compiled if there is none to download: a
# minute or two, once. Needs Go, git, npm, Python, curl and a C++ compiler.
# HOOKMESH_SERVERS_CACHE is where they are kept; user nobody must be able to read it, if you are root.
set -euo pipefail
gitea=1.26.0
ghost=6.65.0
node=22.23.5 # what Ghost's package.json asks for, as pnpm
pnpm=12.4.2
wanted=${HOOKMESH_SERVERS:-gitea ghost}
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

install_ghost() {
  local to=$cache/ghost-$ghost os arch
  [ -d "$to" ] && return
  echo "installing Ghost $ghost" >&2
  os=$(uname -s | tr '[:upper:]' '[:lower:]')
  arch=$(uname -m | sed 's/x86_64/x64/; s/aarch64/arm64/')
  rm -rf "$to.new" && mkdir -p "$to.new"
  (
    cd "$to.new"
    npm install --prefix tools --ignore-scripts --no-fund --no-audit --loglevel=error "node-$os-$arch@$node" "pnpm@$pnpm" >&2
    mv "tools/node_modules/node-$os-$arch" node
    npm pack --loglevel=error "ghost@$ghost" >/dev/null
    tar xzf "ghost-$ghost.tgz"
    cd package
    export PATH=$to.new/node/bin:$to.new/tools/node_modules/.bin:$PATH npm_config_nodedir=$to.new/node JOBS=2
    # Of what would be compiled only SQLite is needed: Ghost does without the others.
    { pnpm install --prod --frozen-lockfile --ignore-scripts --store-dir "$to.new/store" && nice -n 15 npm --prefix node_modules/better-sqlite3 run install &&
      node -e 'new (require("better-sqlite3"))(":memory:")'; } >"$to.new/log" 2>&1 || { tail -50 "$to.new/log" >&2; exit 1; }
    rm -rf "$to.new/store" "$to.new/tools" "$to.new"/*.tgz node_modules/better-sqlite3/build/Release/obj*
    chmod -R a+rX "$to.new"
  )
  mv "$to.new" "$to"
}

for server in $wanted; do "install_$server"; done
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

start_ghost() {
  local port at=$cache/ghost-$ghost api password keys
  port=$(free_port)
  api=http://127.0.0.1:$port/ghost/api/admin
  "${as[@]}" mkdir -p "$dir/ghost"
  "${as[@]}" cp -r "$at/package/content" "$dir/ghost/content"
  "${as[@]}" ln -s "$at/package" "$dir/ghost/current" # where Ghost looks for itself
  # It calls no one but our webhooks, and takes a password without a code by mail.
  "${as[@]}" tee "$dir/ghost/config.production.json" >/dev/null <<JSON
{
  "url": "http://127.0.0.1:$port", "server": {"host": "127.0.0.1", "port": $port, "shutdownTimeout": 500},
  "database": {"client": "better-sqlite3", "connection": {"filename": "$dir/ghost/ghost.db"}, "useNullAsDefault": true},
  "paths": {"contentPath": "$dir/ghost/content"}, "mail": {"transport": "stub", "from": "ghost@example.test"},
  "security": {"staffDeviceVerification": false, "allowWebhookInternalIPs": true},
  "privacy": {"useUpdateCheck": false, "useGravatar": false, "useRpcPing": false}, "explore": {"update_url": ""},
  "logging": {"transports": ["stdout"], "level": "warn"}
}
JSON
  (cd "$dir/ghost" && exec "${as[@]}" env NODE_ENV=production "$at/node/bin/node" "$at/package/index.js") >"$dir/ghost.log" 2>&1 &
  servers+=($!)
  answers $! "$dir/ghost.log" "$api/site/"
  password=$(head -c 18 /dev/urandom | base64)
  local call=(curl -sS --fail-with-body -b "$dir/cookies" -c "$dir/cookies" -H 'Content-Type: application/json' -H "Origin: http://127.0.0.1:$port")
  "${call[@]}" "$api/authentication/setup/" -d '{"setup": [{"name": "Ann", "email": "ann@example.test", "password": "'"$password"'", "blogTitle": "tests"}]}' >"$dir/answer" &&
    "${call[@]}" "$api/session/" -d '{"username": "ann@example.test", "password": "'"$password"'"}' >"$dir/answer" &&
    "${call[@]}" "$api/integrations/?include=api_keys" -d '{"integrations": [{"name": "hookmesh"}]}' >"$dir/answer" || { cat "$dir/answer" "$dir/ghost.log" >&2; exit 1; }
  keys=$(python3 -c 'import json, sys; keys = {k["type"]: k["secret"] for k in json.load(sys.stdin)["integrations"][0]["api_keys"]}; print(keys["admin"], keys["content"])' <"$dir/answer")
  export HOOKMESH_TEST_GHOST=http://127.0.0.1:$port HOOKMESH_TEST_GHOST_ADMIN_KEY=${keys% *} HOOKMESH_TEST_GHOST_CONTENT_KEY=${keys#* }
}

for server in $wanted; do "start_$server"; done
if [ $# -gt 0 ]; then "$@"; else env | grep '^HOOKMESH_TEST_G' && wait; fi
