#!/usr/bin/env bash
#
# run.sh - the shipped jobs on a real Slurm cluster, as an ordinary user.
#
#   tests/slurm/run.sh               all cases, on two clusters side by side: cases mostly wait
#   tests/slurm/run.sh PATTERN       those whose name matches PATTERN (a regular expression), on one
#
# Needs root, Rust and what cluster.sh needs. Makes the release build, or takes the binary that AIF_BINARY names (of which the
# cost of the agents is told, not asserted). Brings each cluster up and, where it was down, takes it down again. Every file
# cases-*.sh beside this one defines functions case_NAME; each runs in a shell of its own with a time limit
# (TIMEOUT_NAME=seconds beside it, default 180). A file's cases run one after another, so that what they load is theirs.
# What they say is kept in target/slurm-tests/.
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

ALL=$PROJECT/target/slurm-tests      # what all lanes share: the files still to be done, and what came of the cases
cases_of() { sed -n 's/^case_\([a-z0-9_]*\)().*/\1/p' "$1"; }
limit_of() { local limit; limit=$(sed -n "s/^TIMEOUT_$2=//p" "$1"); echo "${limit:-180}"; }

# ------------------------------------------------------------ one lane ----

next_file() { # takes one off the list
  exec 8>"$ALL/lock"; flock 8
  FILE=$(head -n 1 "$ALL/queue"); sed -i 1d "$ALL/queue"
  exec 8>&-
  [ -n "$FILE" ]
}

run_case() { # FILE NAME
  local name=$2 limit t0=$SECONDS rc=0
  limit=$(limit_of "$1" "$name")
  # shellcheck disable=SC2016  # expanded by the inner shell
  timeout --kill-after=10 "$limit" bash -c 'set -euo pipefail; . "$1/lib.sh"; . "$2"; begin "$3"; "case_$3"' \
    "$ME" "$HERE" "$1" "$name" >"$ALL/$name.log" 2>&1 </dev/null || rc=$?
  if [ $rc = 0 ]; then
    echo "ok    $name ($((SECONDS - t0)) s)"
  else
    [ $rc != 124 ] && [ $rc != 137 ] || echo "the case was ended after $limit s" >>"$ALL/$name.log"
    # in one piece: the other lane speaks, too
    printf 'FAIL  %s (%d s), the end of %s:\n%s\n' "$name" $((SECONDS - t0)) "${ALL#"$PROJECT/"}/$name.log" \
      "$(tail -n 40 "$ALL/$name.log" | sed 's/^/      /')"
  fi
  echo "$name $rc" >>"$ALL/verdicts"
  clean_up "$name" $rc >>"$ALL/$name.log" 2>&1 || true
}

finish_lane() {
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

lane() { # PATTERN : on the cluster that the environment names
  local name
  STARTED=""
  trap finish_lane EXIT
  trap 'exit 130' INT
  trap 'exit 143' TERM
  sbatch/cluster.sh install
  if ! sbatch/cluster.sh status >/dev/null 2>&1; then
    STARTED=1
    sbatch/cluster.sh start
  fi
  # shellcheck source=tests/slurm/lib.sh
  . "$HERE/lib.sh"
  mkdir -p "$LOGS"
  prepare_project
  while next_file; do
    for name in $(cases_of "$FILE"); do [[ ! $name =~ $1 ]] || run_case "$FILE" "$name"; done
  done
}

if [ "${1:-}" = --lane ]; then lane "$2"; exit; fi

# ----------------------------------------------------------- all lanes ----

[ -n "${AIF_BINARY:-}" ] || cargo build --locked --release
rm -rf "$ALL"; mkdir -p "$ALL"

pattern=${1:-.} planned=0
for file in "$HERE"/cases-*.sh; do
  seconds=0 count=0
  for name in $(cases_of "$file"); do
    [[ $name =~ $pattern ]] || continue
    count=$((count + 1)) seconds=$((seconds + $(limit_of "$file" "$name")))
  done
  planned=$((planned + count))
  [ $count = 0 ] || echo "$seconds $file"
done >"$ALL/files"
# the longest first: the lanes then end at about the same time
sort -rn "$ALL/files" | cut -d' ' -f2- >"$ALL/queue"
: >"$ALL/verdicts"

lanes=("$CLUSTER_NAME")
if [ $# = 0 ]; then
  # what both would make, once
  sbatch/cluster.sh install
  images=$(getent passwd "$CLUSTER_USER" | cut -d: -f6)/ai-factories/containers
  install -d -o "$CLUSTER_USER" -g "$(id -gn "$CLUSTER_USER")" "$(dirname "$images")" "$images"
  sbatch/image-llamacpp.sh "$images"
  lanes+=("${CLUSTER_NAME}2")
fi

pids=() broken=0
stop_lanes() { kill "${pids[@]}" 2>/dev/null || true; wait || true; exit "$1"; }
trap 'stop_lanes 130' INT
trap 'stop_lanes 143' TERM
for name in "${lanes[@]}"; do
  run=${AIF_CLUSTER_RUN:-}
  [ "$name" = "$CLUSTER_NAME" ] || run=""
  AIF_CLUSTER_NAME=$name AIF_CLUSTER_RUN=$run "$HERE/run.sh" --lane "$pattern" &
  pids+=($!)
done
for pid in "${pids[@]}"; do wait "$pid" || broken=1; done

ran=$(wc -l <"$ALL/verdicts") passed=$(grep -c ' 0$' "$ALL/verdicts" || true)
[ "$passed" = "$ran" ] || printf '\nfailed: %s\n' "$(awk '$2 != 0 { printf "%s ", $1 }' "$ALL/verdicts")"
[ "$ran" = "$planned" ] || printf '\n%d cases were not run\n' $((planned - ran))
echo
echo "$passed passed, $((ran - passed)) failed, $((planned - ran)) not run" | tee "$ALL/summary"
[ $broken = 0 ] && [ "$planned" -gt 0 ] && [ "$passed" = "$planned" ]
