# shellcheck shell=bash disable=SC2016,SC2034
#
# lib.sh - what the cases of tests/slurm/ are written with. Sourced by run.sh and by every case's shell.

LIB=$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")
PROJECT=$(dirname "$(dirname "$LIB")")
# shellcheck source=sbatch/common.sh
. "$PROJECT/sbatch/common.sh"

LOGS=$PROJECT/target/slurm-tests        # what a case wants to look at
USER_HOME=$(getent passwd "$CLUSTER_USER" | cut -d: -f6)
T=$USER_HOME/aif-tests                  # the staged project: what AIF_HOME is for the jobs
# suites on clusters side by side share the home
[ "$CLUSTER_NAME" = local ] || { T+=-$CLUSTER_NAME; LOGS+=/$CLUSTER_NAME; }
REGISTRY=$T/registry
NODES=(node1 node2 node3 node4)
# what a user's recipe may be called is the recipes' business; the shipped ones are these
SERVER=llamacpp-server MONITOR=llamacpp-monitor BENCH=llamacpp-simple-test

# ------------------------------------------------------------- running ----

on_node() { local node=$1; shift; "$PROJECT/sbatch/cluster.sh" exec -m "$node" -- "$@"; }
# as the user, on the head (a login node), in the project's folder
as_user() {
  "$PROJECT/sbatch/cluster.sh" exec -u "$CLUSTER_USER" -C "$T" -- env AIF_SITE=local AIF_REGISTRY="$REGISTRY" "$@"
}
# the same on a node, but with nothing of Slurm in sight
as_user_without_slurm() {
  local node=$1; shift
  "$PROJECT/sbatch/cluster.sh" exec -m "$node" -- mkdir -p /run/no-slurm
  # a PATH of links to everything but Slurm's commands
  on_node "$node" bash -c 'cd /run/no-slurm; for f in /usr/bin/*; do case ${f##*/} in
    srun | sbatch | salloc | squeue | scancel | scontrol | sinfo | sacct | sacctmgr | sstat | sattach | sbcast | sprio | sshare | sdiag | sreport | strigger | scrontab) ;;
    *) ln -sf "$f" . ;; esac; done'
  "$PROJECT/sbatch/cluster.sh" exec -u "$CLUSTER_USER" -m "$node" -C "$T" -- env PATH=/run/no-slurm AIF_SITE=local AIF_REGISTRY="$REGISTRY" "$@"
}
submit() { as_user sbatch --parsable "$@" | cut -d';' -f1; }

job_field() { # JOB FIELD
  as_user scontrol show job "$1" | tr ' ' '\n' | sed -n "s/^$2=//p" | head -1
}
job_state() { job_field "$1" JobState; }

# Waits until the job is over, and prints the batch script's exit code.
wait_job() { # JOB [SECONDS]
  local state="" until=$((SECONDS + ${2:-170}))
  while [ $SECONDS -lt $until ]; do
    state=$(job_state "$1")
    case $state in
      COMPLETED | FAILED | CANCELLED | TIMEOUT | OUT_OF_MEMORY | NODE_FAIL | PREEMPTED | DEADLINE | BOOT_FAIL)
        job_field "$1" ExitCode | cut -d: -f1; return 0 ;;
    esac
    sleep 0.5
  done
  fail "job $1 is not over after ${2:-170} s: $state $(job_field "$1" Reason)"
}

# wait_until SECONDS WHAT CMD... : CMD is tried until it succeeds
wait_until() {
  local until=$((SECONDS + $1)) what=$2; shift 2
  until "$@" >/dev/null 2>&1; do
    [ $SECONDS -lt $until ] || fail "waited in vain for: $what"
    sleep 0.25
  done
}

# The folder of a stack's run, of which there must be exactly one.
run_of() { # JOB
  local found; found=$(find "$T/results" -mindepth 1 -maxdepth 1 -type d -name "*-$1" 2>/dev/null)
  { [ -n "$found" ] && [ "$(wc -l <<<"$found")" = 1 ]; } || fail "one run folder *-$1 in $T/results, got: ${found:-none}; there are: $(ls "$T/results" 2>&1)"
  echo "$found"
}
output_of() { local file; file=$(find "$T" -maxdepth 1 -name "*-$1.out"); [ -n "$file" ] || fail "job $1 wrote no output file"; echo "$file"; }
seconds_of() { date -d "$1" +%s.%N; }

# the engine of a job: Apptainer's processes bear other names
engine_pid() { # JOB
  on_node "$(job_field "$1" BatchHost)" bash -c 'for pid in $(pgrep -u "$1" -x llama-server); do
    ! grep -q "/job_$2/" /proc/$pid/cgroup || { echo $pid; exit; }
  done; exit 1' pid "$CLUSTER_USER" "$1"
}
signal_engine() { on_node "$(job_field "$1" BatchHost)" kill "-$2" "$(engine_pid "$1")"; } # JOB SIGNAL

# ---------------------------------------------------------- assertions ----

fail() { echo "FAILED: $*" >&2; exit 1; }
assert_eq() { # WHAT EXPECTED ACTUAL
  [ "$2" = "$3" ] || fail "$1: expected '$2', got '$3'"
}
assert_file() { local file; for file; do [ -s "$file" ] || fail "$file is missing or empty; its folder has: $(find "$(dirname "$file")" -mindepth 1 -maxdepth 1 -printf '%f ' 2>&1)"; done; }
assert_contains() { # FILE PATTERN
  grep -qE -- "$2" "$1" || { tail -n 30 "$1" >&2; fail "$1 does not contain /$2/ (its end is above)"; }
}
assert_json() { # FILE FILTER EXPECTED : the filter's compact output
  local got; got=$(jq -c "$2" "$1") || fail "jq $2 $1"
  [ "$got" = "$3" ] || fail "$1: $2 is $got, expected $3"
}
assert_number() { # WHAT A OP B, with an operator of awk
  awk -v a="$2" -v b="$4" "BEGIN { exit !(a $3 b) }" || fail "$1: $2 is not $3 $4"
}

# What a job said of its failure, which must be one line, in which PATTERN stands. Told as a row of the table of failures.
assert_row() { # NAME JOB CODE PATTERN
  local said out; out=$(output_of "$2")
  said=$(grep -E '^(aif|slurmstepd): ' "$out" | grep -vE '^slurmstepd: .*(CANCELLED|STEP [0-9.+]+ ON)|^aif: (run folder |warning: )' || true)
  assert_eq "exit code of $1" "$3" "$(job_field "$2" ExitCode | cut -d: -f1)"
  echo "row $1: exit $3 in $(job_seconds "$2") s: ${said:-no error}"
  [ -n "$4" ] || { assert_eq "errors of $1" "" "$said"; return 0; }
  assert_eq "lines of error of $1" 1 "$(grep -c . <<<"$said")"
  grep -qE -- "$4" <<<"$said" || fail "the error of $1 does not say /$4/"
}
# a cancelled job ends for Slurm when it is cancelled, and its batch script some time later
job_seconds() { as_user sacct -n -P -o ElapsedRaw -j "$1" | sort -n | tail -1; } # JOB

# The archived Prometheus of a run answers this query with at least one sample.
assert_archived() { # RUN QUERY
  local out; out=$(mktemp)
  as_user bin/aif export "$1" --query "$2" --json >"$out" || fail "aif export $1 --query '$2' ended with $?"
  jq -e '.series | length > 0' "$out" >/dev/null || { cat "$out" >&2; fail "no series for '$2' in $1"; }
  rm -f "$out"
}

# shellcheck source=tests/slurm/panels.sh
. "$LIB/panels.sh"

# Checks a run folder as the design lays it out. Sets RESULTS.
check_run() { # RUN BENCH
  local run=$1 bench=$2
  assert_file "$run"/{manifest.json,report.html,report.md} "$run/bench/$bench"/{results.json,vllm.json,results.csv}
  [ -n "$(find "$run/metrics" -type f 2>/dev/null)" ] || fail "$run/metrics is empty"
  [ -n "$(find "$run/logs" -type f -size +0 2>/dev/null)" ] || fail "$run/logs is empty"
  RESULTS=$run/bench/$bench/results.json
  assert_json "$RESULTS" 'keys_unsorted[:7]' \
    '["total_requests","successes","errors","avg_latency_ms","min_latency_ms","max_latency_ms","throughput_req_per_sec"]'
  assert_json "$RESULTS" '.successes > 0 and .total_requests == .successes + .errors' true
  assert_json "$RESULTS" '.validity.verdict != "invalid"' true
  assert_json "$RESULTS" '.completeness' '"complete"'
  # what the client counted is what the engine says it did
  assert_json "$RESULTS" '.tokens.counted_by' '"usage"'
  assert_json "$RESULTS" '.tokens | .output.client > 0 and .output.client == .output.engine' true
  assert_json "$RESULTS" '.tokens | .prompt.client > 0 and .prompt.client == .prompt.engine' true
  assert_json "$run/bench/$bench/vllm.json" 'has("request_throughput") and has("mean_ttft_ms") and has("completed")' true
}

# What the job took, from submission to the first token that a client got.
phases() { # JOB RUN BENCH
  local submit start step ready first
  read -r submit start < <(as_user env SLURM_TIME_FORMAT=%s sacct -X -n -P -o Submit,Start -j "$1" | head -1 | tr '|' ' ')
  step=$(seconds_of "$(jq -r .started_at "$2/steps/server.json")")
  ready=$(seconds_of "$(jq -r .ready_at "$2/steps/server.json")")
  first=$(seconds_of "$(jq -r .ready_at "$2/steps/bench-$3.json")")
  awk -v a="$submit" -v b="$start" -v c="$step" -v d="$ready" -v e="$first" \
    'BEGIN { printf "row phases: submit to start %.0f s (whole seconds), start to step %.1f s, step to ready %.1f s, ready to load %.1f s\n", b - a, c - b, d - c, e - d }'
}

processes() { # the user's processes on all machines
  local node; for node in head "${NODES[@]}"; do
    on_node "$node" ps -u "$CLUSTER_USER" -o pid=,args= | grep -v 'slurmstepd' | sed "s/^/$node: /" || true
  done
}
leftovers() { # the user's files on the machines' own disks
  local node; for node in "${NODES[@]}"; do
    on_node "$node" find /tmp /dev/shm /var/tmp -user "$CLUSTER_USER" | sed "s/^/$node: /" || true
  done
}
no_processes() { [ -z "$(processes)" ]; }
assert_clean() {
  # Slurm ends a job's processes and tells of it at its own pace
  local until=$((SECONDS + 5))
  until no_processes || [ $SECONDS -ge $until ]; do sleep 0.5; done
  assert_eq "processes of $CLUSTER_USER" "" "$(processes)"
  assert_eq "files left on the nodes" "" "$(leftovers)"
  assert_eq "records left in the registry" "" "$(find "$REGISTRY" -name '*.json' 2>/dev/null)"
  # the one key of the user's agents stays
  assert_eq "keys left in the registry" "" "$(find "$REGISTRY/.keys" -type f 2>/dev/null)"
}

# ---------------------------------------------------------------- frame ----

# derive KIND FROM TO SED... : a recipe made from a shipped one, so that these follow what is shipped
derive() {
  local kind=$1 from=$2 to=$3; shift 3
  local source=$T/recipes/$kind/$from.yaml target=$T/recipes/$kind/$to.yaml
  assert_file "$source"
  sed -e "s/^name: .*/name: $to/" "$@" "$source" >"$target"
  cmp -s <(sed 's/^name: .*//' "$source") <(sed 's/^name: .*//' "$target") && fail "$to is the same as $from: the recipe has changed its form"
  return 0
}
# stack_job SERVER : the shipped job with another server recipe; prints its path
stack_job() {
  sed -e "s/--server $SERVER/--server $1/" "$T/jobs/llamacpp-stack.sh" >"$T/jobs/$1.sh"
  echo "jobs/$1.sh"
}
service() { sed -n 's/^service_name: *//p' "$T/recipes/servers/$SERVER.yaml"; }

# Once: the image (kept between runs, beside quickstart's), and the project as quickstart stages it.
prepare_project() {
  local images=$USER_HOME/ai-factories/containers group
  group=$(id -gn "$CLUSTER_USER")
  install -d -o "$CLUSTER_USER" -g "$group" "$USER_HOME/ai-factories" "$images"
  "$PROJECT/sbatch/image-llamacpp.sh" "$images"
  [ ! -L "$T" ] || die $EX_CANTCREATE "$T is a symbolic link: remove it"
  rm -rf "$T"
  "$PROJECT/sbatch/stage.sh" "$CLUSTER_USER" "$T"
  ln "$images"/llamacpp.sif* "$T/containers/"
  sed -i "s/^clusters: .*/clusters: [$CLUSTER_NAME]/" "$T/sbatch/sites/local.yaml"
}

# vLLM's image takes minutes to make and is kept beside llama.cpp's.
prepare_vllm() {
  local images=$USER_HOME/ai-factories/containers
  "$PROJECT/sbatch/image-vllm.sh" "$images"
  [ -e "$T/containers/vllm-cpu.sif" ] || ln "$images"/vllm-cpu.sif* "$T/containers/"
  ln -sfn vllm-cpu.sif "$T/containers/vllm-openai_v0.5.4.sif"
}

begin() { # NAME
  echo "case $1, $(date -u +%FT%TZ)"
  # files that a case makes in the project's folder are the user's to read
  umask 022
}

# After every case: what it left is kept if it failed, and taken away, so that the next case starts from nothing.
clean_up() { # NAME RC
  local node
  as_user scancel --user="$CLUSTER_USER" || true
  for _ in $(seq 60); do [ -n "$(as_user squeue -h -u "$CLUSTER_USER")" ] || break; sleep 0.5; done
  if [ "$2" != 0 ]; then
    mkdir -p "$LOGS/$1"
    cp -R "$T"/*.out "$T/results" "$REGISTRY" "$LOGS/$1/" 2>/dev/null || true
    { processes; leftovers; } >"$LOGS/$1/left-over" 2>&1 || true
  fi
  for node in head "${NODES[@]}"; do
    on_node "$node" pkill -KILL -u "$CLUSTER_USER" || true
    on_node "$node" find /tmp /dev/shm /var/tmp -mindepth 1 -user "$CLUSTER_USER" -delete || true
  done
  rm -rf "${T:?}/results" "$REGISTRY"; rm -f "$T"/*.out "$LOGS/secrets"
  install -d -o "$CLUSTER_USER" -g "$(id -gn "$CLUSTER_USER")" "$T/results"
}
