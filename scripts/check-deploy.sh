#!/usr/bin/env bash
# What is deployed, read by the programs that will read it. Prints what each of them said, and fails if one of them does.
set -uo pipefail
cd "$(dirname "$0")/../deploy"
promtool=$(../scripts/tool.sh promtool) && amtool=$(../scripts/tool.sh amtool) && caddy=$(../scripts/tool.sh caddy) && jaeger=$(../scripts/tool.sh jaeger) ||
  { echo "a tool could not be built: see above" >&2; exit 1; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failed=0

check() { # what, command…
  local what=$1
  shift
  if "$@" >"$work/out" 2>&1; then
    echo "ok    $what"
  else
    echo "WRONG $what"
    sed 's/^/      /' "$work/out"
    failed=1
  fi
}

check "Prometheus: configuration"           "$promtool" check config --lint=all --lint-fatal prometheus/prometheus.yaml
check "Prometheus: rules"                   "$promtool" check rules --lint=all --lint-fatal prometheus/alerts.yaml
check "Prometheus: every alert fires once"  "$promtool" test rules prometheus/alerts_test.yaml
check "Alertmanager: configuration"         "$amtool" check-config alertmanager/alertmanager.yaml
for route in page:page ticket:ticket info:nobody unknown:page; do
  check "Alertmanager: ${route%:*} goes to ${route#*:}" \
    "$amtool" config routes test --config.file alertmanager/alertmanager.yaml --verify.receivers "${route#*:}" "severity=${route%:*}"
done
check "Caddy: file"                         env XDG_DATA_HOME="$work" XDG_CONFIG_HOME="$work" "$caddy" validate --adapter caddyfile --config caddy/Caddyfile
check "Caddy: formatted"                    bash -c '"$0" fmt --diff caddy/Caddyfile' "$caddy"
check "Caddy: file for a public name"       env HOOKMESH_HOST=hooks.example.com "$caddy" adapt --adapter caddyfile --config caddy/Caddyfile
check "Caddy: passes on webhooks alone"     env GOWORK=off HOOKMESH_TEST_CADDY="$caddy" go -C ../e2e/deploy test -tags caddy -count=1 -timeout 2m ./proxy
check "OpenTelemetry Collector: file"       "$jaeger" validate --config otel/collector.yaml
exit $failed
