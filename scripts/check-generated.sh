#!/usr/bin/env bash
# Fails when gen/ is not what proto/ generates today.
set -euo pipefail
cd "$(dirname "$0")/.."
fresh=$(mktemp -d)
trap 'rm -rf "$fresh"' EXIT
buf generate -o "$fresh"
if ! diff -r "$fresh/gen" gen --exclude=go.mod --exclude=go.sum --exclude=embed.go; then
  echo "gen/ is stale: run 'make generate' and commit the result" >&2
  exit 1
fi
