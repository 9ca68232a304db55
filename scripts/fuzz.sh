#!/usr/bin/env bash
# Runs every fuzz target of the workspace for the given time each (default 10s).
set -euo pipefail
cd "$(dirname "$0")/.."
time=${1:-10s}
for module in services e2e; do
  cd "$module"
  go list -f '{{.Dir}}' ./... | while read -r dir; do
    # shellcheck disable=SC2013
    for target in $(grep -hoE '^func (Fuzz[A-Za-z0-9_]+)' "$dir"/*_test.go 2>/dev/null | awk '{print $2}' | sort -u); do
      echo "fuzz ${dir##*/"$module"/} $target"
      (cd "$dir" && go test -run '^$' -fuzz "^$target\$" -fuzztime "$time" .)
    done
  done
  cd ..
done
