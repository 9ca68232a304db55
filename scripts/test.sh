#!/usr/bin/env bash
# All tests of all modules. The race detector needs cgo and a C compiler; without one the tests run without it, and say so.
set -euo pipefail
cd "$(dirname "$0")/.."
race=()
if command -v "${CC:-cc}" >/dev/null 2>&1; then
  export CGO_ENABLED=1
  race=(-race)
else
  echo "no C compiler: the tests run without the race detector"
fi
exec go test "${race[@]}" -timeout 20m "$@" work
