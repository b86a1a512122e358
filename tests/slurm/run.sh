#!/usr/bin/env bash
#
# run.sh - the shipped jobs on a real Slurm cluster, as an ordinary user.
#
#   tests/slurm/run.sh [PATTERN]     all cases, or those whose name matches PATTERN (a regular expression)
#
# Needs root, Rust and what cluster.sh needs. Makes the release build, or takes the binary that AIF_BINARY names (of which the
# cost of the agents is told, not asserted). Brings the cluster up and, where it was down, takes it down again. Every file
# cases-*.sh beside this one defines functions case_NAME; each runs in a shell of its own with a time limit
# (TIMEOUT_NAME=seconds beside it, default 180). What they say is kept in target/slurm-tests/.
#
set -euo pipefail

ME=tests/slurm/run.sh
HERE=$(dirname "$(readlink -f "$0")")
[ -z "${AIF_BINARY:-}" ] || AIF_BINARY=$(readlink -f "$AIF_BINARY")
PROJECT=$(dirname "$(dirname "$HERE")")
cd "$PROJECT"
# shellcheck source=sbatch/common.sh
. sbatch/common.sh

is_root || die $EX_NOPERM "this suite brings up a cluster and must be run as root"
for tool in jq curl; do command -v $tool >/dev/null || die $EX_MISSING "$tool is missing (tests/run.sh installs it)"; done

[ -n "${AIF_BINARY:-}" ] || cargo build --locked --release
LOGS=$PROJECT/target/slurm-tests
rm -rf "$LOGS"; mkdir -p "$LOGS"

STARTED=""
finish() {
  local rc=$?
  if [ -n "$STARTED" ]; then
    sbatch/cluster.sh stop || rc=1
    # it says that it leaves no trace
    if grep -qs "$CLUSTER_RUN/" /proc/self/mountinfo || ls "/run/netns/aifc-$CLUSTER_NAME"-* >/dev/null 2>&1 || [ -e "$CLUSTER_RUN" ]; then
      say "error: cluster.sh stop left a mount, a network namespace or $CLUSTER_RUN"; rc=1
    fi
  fi
  exit $rc
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

sbatch/cluster.sh install
if ! sbatch/cluster.sh status >/dev/null 2>&1; then
  STARTED=1
  sbatch/cluster.sh start
fi

# shellcheck source=tests/slurm/lib.sh
. "$HERE/lib.sh"
prepare_project

passed=0 failed=0 failures=()
for file in "$HERE"/cases-*.sh; do
  while read -r name; do
    [[ $name =~ ${1:-.} ]] || continue
    limit=$(sed -n "s/^TIMEOUT_$name=//p" "$file")
    t0=$SECONDS rc=0
    # shellcheck disable=SC2016  # expanded by the inner shell
    timeout --kill-after=10 "${limit:-180}" bash -c 'set -euo pipefail; . "$1/lib.sh"; . "$2"; begin "$3"; "case_$3"' \
      "$ME" "$HERE" "$file" "$name" >"$LOGS/$name.log" 2>&1 </dev/null || rc=$?
    if [ $rc = 0 ]; then
      passed=$((passed + 1)); printf 'ok    %s (%d s)\n' "$name" $((SECONDS - t0))
    else
      failed=$((failed + 1)); failures+=("$name")
      [ $rc != 124 ] && [ $rc != 137 ] || echo "the case was ended after ${limit:-180} s" >>"$LOGS/$name.log"
      printf 'FAIL  %s (%d s), the end of %s:\n' "$name" $((SECONDS - t0)) "${LOGS#"$PROJECT/"}/$name.log"
      tail -n 40 "$LOGS/$name.log" | sed 's/^/      /'
    fi
    clean_up "$name" $rc >>"$LOGS/$name.log" 2>&1 || true
  done < <(sed -n 's/^case_\([a-z0-9_]*\)().*/\1/p' "$file")
done

[ $failed = 0 ] || printf '\nfailed: %s\n' "${failures[*]}"
echo
echo "$passed passed, $failed failed" | tee "$LOGS/summary"
[ $failed = 0 ] && [ $passed -gt 0 ]
