#!/usr/bin/env bash
# Programs of other projects that read what is deployed, each built once from its Go module and kept.
#   scripts/tool.sh promtool|amtool|prometheus|alertmanager|caddy|jaeger   builds the program if it is not there yet, and prints its path
# Prometheus and Alertmanager come without their web pages, which are no part of their modules. Jaeger is an OpenTelemetry Collector with a storage for
# traces: it reads the collector's configuration too. The first build of each takes minutes (Jaeger: eight on two busy processors).
# HOOKMESH_CACHE is where programs are kept; default: the user's cache folder. The versions are those of docker-compose.yml's images; `make deploy-test` compares them.
set -euo pipefail
# Of the ways in which Prometheus finds what to scrape, only the one that is used here: those of the clouds take longer to compile than all of the rest.
promtool=(github.com/prometheus/prometheus cmd/promtool v0.316.0 remove_all_sd,enable_dns_sd)
prometheus=(github.com/prometheus/prometheus cmd/prometheus v0.316.0 remove_all_sd,enable_dns_sd)
caddy=(github.com/caddyserver/caddy/v2 cmd/caddy v2.11.9)
amtool=(github.com/prometheus/alertmanager cmd/amtool v0.35.0)
alertmanager=(github.com/prometheus/alertmanager cmd/alertmanager v0.35.0)
jaeger=(github.com/jaegertracing/jaeger cmd/jaeger v1.76.0)
cache=${HOOKMESH_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/hookmesh}

case ${1:-} in
promtool | amtool | prometheus | alertmanager | caddy | jaeger) declare -n tool=$1 ;;
*) sed -n '2,7s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
esac
at=$cache/$1-${tool[2]}
if [ ! -x "$at" ]; then
  mkdir -p "$cache"
  exec 9>"$cache/lock-$1"
  flock 9 # several may come at once
fi
if [ ! -x "$at" ]; then
  echo "building $1 ${tool[2]}, once" >&2
  work=$(mktemp -d)
  trap 'rm -rf "$work"' EXIT
  cd "$work"
  # In a module of its own, because go install refuses modules that replace others. The versions are those of the tool's own go.mod.
  export GOWORK=off GOFLAGS=-mod=mod CGO_ENABLED=0
  go mod init tool >/dev/null 2>&1
  go get "${tool[0]}/${tool[1]}@${tool[2]}" >get.log 2>&1 || { cat get.log >&2; exit 1; }
  if [ "$1" = alertmanager ]; then # embeds the pages that a release builds with npm: an empty one stands in
    cp -r "$(go list -m -f '{{.Dir}}' "${tool[0]}")" module
    chmod -R u+w module
    mkdir -p module/ui/app/dist
    touch module/ui/app/dist/index.html
    go mod edit -replace "${tool[0]}=./module"
  fi
  nice -n 10 go build -tags "${tool[3]:-}" -trimpath -ldflags "-s -w" -o "$at.new" "${tool[0]}/${tool[1]}" >&2
  mv "$at.new" "$at"
fi
echo "$at"
