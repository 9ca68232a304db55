#!/usr/bin/env bash
# Puts each deliberate bug of mutants/ into a copy of the code, one at a time, and runs the tests that must catch it.
#
#   scripts/mutants.sh            all of them, as a table; fails if one is not caught
#   scripts/mutants.sh NAME…      those whose names contain one of these
#   scripts/mutants.sh --check    only whether every patch still applies
set -euo pipefail
cd "$(dirname "$0")/.."
patches=(mutants/*.patch)
apply=(git apply -C1 --recount)

if [ "${1:-}" = --check ]; then
  failed=0
  for p in "${patches[@]}"; do
    "${apply[@]}" --check "$p" || { echo "$p does not apply any more: make it anew against the code as it is now (mutants/README.md)"; failed=1; }
  done
  [ "$failed" = 0 ] && echo "${#patches[@]} mutants apply"
  exit "$failed"
fi

copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
git ls-files -z --cached --others --exclude-standard gen services e2e/go.mod e2e/go.sum go.work go.work.sum | tar -c --null -T - | tar -x -C "$copy"

caught=0 total=0 began=$SECONDS
printf '%-36s %-8s %6s  %s\n' MUTANT RESULT TIME "CAUGHT BY"
for p in "${patches[@]}"; do
  name=$(basename "$p" .patch)
  if [ $# -gt 0 ]; then
    wanted=0
    for w in "$@"; do case "$name" in *"$w"*) wanted=1 ;; esac; done
    [ "$wanted" = 1 ] || continue
  fi
  total=$((total + 1)) start=$SECONDS result=SURVIVED by=-
  (cd "$copy" && "${apply[@]}" "$OLDPWD/$p")
  for tests in $(sed -n 's/^Tests: //p' "$p"); do
    package=${tests%%:*} only=()
    [ "$package" = "$tests" ] || only=(-run "^${tests#*:}\$")
    if ! out=$(cd "$copy/services" && go test -count=1 -failfast -timeout 100s "${only[@]}" "$package" 2>&1); then
      if grep -qE '\[(build|setup) failed\]' <<<"$out"; then
        result=BROKEN by="does not compile: $(grep -m1 -E '\.go:[0-9]+' <<<"$out" || true)"
      else
        result=caught by="$package $(grep -m1 -oE '^--- FAIL: [^ ]+' <<<"$out" | cut -c11- || true)" caught=$((caught + 1))
      fi
      break
    fi
  done
  (cd "$copy" && "${apply[@]}" -R "$OLDPWD/$p")
  printf '%-36s %-8s %5ss  %s\n' "$name" "$result" "$((SECONDS - start))" "$by"
done
echo "$caught of $total mutants caught in $((SECONDS - began)) s"
[ "$caught" = "$total" ]
