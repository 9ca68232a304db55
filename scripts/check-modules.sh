#!/usr/bin/env bash
# Each module must build outside the workspace too, with a go.mod that is tidy.
set -euo pipefail
cd "$(dirname "$0")/.."
export GOWORK=off
for module in "$@"; do
  (cd "$module" && go build ./... && go mod tidy -diff) || {
    echo "module $module does not stand alone, or its go.mod is not tidy: run 'go mod tidy' in $module/" >&2
    exit 1
  }
done
