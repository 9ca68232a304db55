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
[ -n "${HOOKMESH_TEST_POSTGRES:-}" ] || echo "HOOKMESH_TEST_POSTGRES is not set: the stores over PostgreSQL are NOT tested here; make test-postgres tests them"
exec go test "${race[@]}" -timeout 20m "$@" work
