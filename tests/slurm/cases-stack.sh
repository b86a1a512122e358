# shellcheck shell=bash disable=SC2016,SC2034,SC2153,SC2154
# The stack in one job, and as local processes.

check_archive() { # RUN
  assert_archived "$1" 'count(last_over_time({__name__=~"llamacpp:.*"}[1h]))'
  assert_archived "$1" 'count(last_over_time({__name__=~"aif_bench_.*"}[1h]))'
  assert_archived "$1" 'count(last_over_time({__name__=~"aif_node_.*"}[1h]))'
}

# A bench that would go on for longer than any case waits for it.
LONG=(--set workload.duration_seconds=600)
wait_for_bench() { # JOB
  wait_until 90 "the bench to send" bash -c "jq -e '.ready_at' '$T'/results/*-$1/steps/bench-$BENCH.json"
}

# Every key that is there while a job runs, one a line, in a file that only root can read.
keep_secrets() {
  (umask 077; awk 1 "$REGISTRY/scrape.key" "$REGISTRY"/.keys/* >"$LOGS/secrets")
  assert_number "keys" "$(grep -c . "$LOGS/secrets")" ">=" 2
}
assert_no_secret_in_arguments() {
  local node; for node in head "${NODES[@]}"; do
    ! on_node "$node" ps -eo args= | grep -F -f "$LOGS/secrets" || fail "a key is in an argument on $node"
  done
}
assert_no_secret_kept() { # JOB RUN
  local submitted; submitted=$(as_user sacct -n -P -o SubmitLine -j "$1")
  assert_number "lines of sacct" "$(wc -l <<<"$submitted")" ">=" 4
  ! grep -F -f "$LOGS/secrets" <<<"$submitted" || fail "a key is in what was submitted"
  ! grep -rlF -f "$LOGS/secrets" "$2" "$(output_of "$1")" || fail "a key is in these files"
}

# a. The main job.
TIMEOUT_stack=420
case_stack() {
  local job run name shims=$T/shims log=$T/shims.log first last called
  # commands that ask the controller are logged, whoever calls them inside the job
  mkdir -p "$shims"; : >"$log"; chmod 666 "$log"
  for name in squeue scontrol sacct sbatch scancel; do
    printf '#!/bin/bash\nprintf "%%s %%s\\n" "$(date +%%s.%%N)" "%s $*" >>%s\nexec /usr/bin/%s "$@"\n' "$name" "$log" "$name" >"$shims/$name"
    chmod 755 "$shims/$name"
  done
  job=$(as_user env PATH="$shims:/usr/local/bin:/usr/bin:/bin" /usr/bin/sbatch --parsable jobs/llamacpp-stack.sh)
  wait_for_bench "$job"
  keep_secrets
  assert_no_secret_in_arguments
  assert_eq "exit code of the job" 0 "$(wait_job "$job" 400)"
  run=$(run_of "$job")
  check_run "$run" "$BENCH"
  check_archive "$run"
  phases "$job" "$run" "$BENCH"
  # our own account of the same
  assert_json "$run/manifest.json" '[.phases[] | select(.seconds >= 0) | .phase]' '["queue","launch","ready","first_token","total"]'

  first=$(jq -rs 'map(.started_at) | min' "$run"/steps/*.json)
  last=$(jq -rs 'map(.ended_at) | max' "$run"/steps/bench-*.json)
  called=$(awk -v a="$(seconds_of "$first")" -v b="$(seconds_of "$last")" '$1 >= a && $1 <= b' "$log")
  assert_eq "calls to the controller between first step and last bench" "" "$called"

  # all roles were steps of this one job
  assert_json <(jq -s 'map(.job) | unique' "$run"/steps/*.json) . "[\"$job\"]"
  assert_json <(jq -s 'map(.step) | unique | length' "$run"/steps/*.json) . 3
  jq -r '"\(.role): CPUs \(.cpus)"' "$run"/steps/*.json
  # the engine keeps its CPUs to itself where there are two
  [ "$(nproc)" = 1 ] ||
    assert_json <(jq -s '(map(select(.role == "server").cpus) | add) as $own | map(select(.role != "server").cpus) | add | map(select(IN($own[])))' "$run"/steps/*.json) . '[]'
  assert_contains "$(output_of "$job")" "report\.html"
  # llama.cpp told its KV cache in older releases
  assert_panels "$run" aif-llamacpp aif-bench aif-node -- "${NOT_HERE[@]}" "KV cache of the engine"
  assert_no_secret_kept "$job" "$run"
  assert_clean
}

# The same over the network: the engine on a node of one component, the rest on a node of the other, one run, one report.
TIMEOUT_het=300
case_het() {
  local out=$LOGS/het.out job run
  as_user bin/aif submit --wait jobs/llamacpp-hetjob.sh >"$out" 2>&1 || { rc=$?; tail -n 30 "$out" >&2; fail "aif submit ended with $rc"; }
  job=$(sed -n 's/^job \([0-9]*\) submitted.*/\1/p' "$out")
  run=$(run_of "$job")
  check_run "$run" "$BENCH"
  check_archive "$run"
  assert_json <(jq -s 'map(select(.role == "server").node) | unique | length' "$run"/steps/*.json) . 1
  assert_json <(jq -s '(map(select(.role == "server").node)[0]) as $engine | map(select(.role != "server").node) | unique | map(. != $engine) | all' "$run"/steps/*.json) . true
  assert_json "$RESULTS" '.generator.cores_shared' false
  assert_contains "$out" "report\.html"
  assert_clean
}

# A prompt's length is what the engine counts.
case_prompt_length() {
  local job run
  job=$(submit jobs/llamacpp-stack.sh --set dataset.params.prompt_length=1024 --set workload.concurrent_users=1 --set workload.duration_seconds=20)
  assert_eq "exit code of the job" 0 "$(wait_job "$job" 150)"
  run=$(run_of "$job")
  jq -c .metrics.input_sequence_length "$run/bench/$BENCH/results.json"
  assert_json "$run/bench/$BENCH/results.json" '.metrics.input_sequence_length | .min >= 973 and .max <= 1075' true
  assert_clean
}

# c. scancel in the middle of a bench: what was measured is kept, and nothing else.
TIMEOUT_scancel=180
case_scancel() {
  local job run results t0
  job=$(submit jobs/llamacpp-stack.sh "${LONG[@]}")
  wait_for_bench "$job"
  sleep 8
  t0=$SECONDS
  as_user scancel "$job"
  wait_job "$job" 45 >/dev/null
  # KillWait is 30 s: later than that Slurm has killed it, and it did not end by itself
  assert_number "seconds from scancel to the end" $((SECONDS - t0)) "<" 30
  run=$(run_of "$job"); results=$run/bench/$BENCH/results.json
  assert_file "$results" "$run/manifest.json" "$run/report.html"
  assert_json "$results" '.completeness' '"interrupted"'
  assert_json "$results" '.successes > 0' true
  check_archive "$run"
  assert_clean
}

# d. An engine that exits before it is ready ends the run at once, and its last words are shown.
case_engine_dies() {
  local job run ended over
  derive servers "$SERVER" tests-broken -e 's#/models/[A-Za-z0-9._-]*\.gguf#/models/no-such-model.gguf#'
  job=$(submit "$(stack_job tests-broken)")
  assert_eq "exit code" 69 "$(wait_job "$job" 60)"
  run=$(run_of "$job")
  ended=$(seconds_of "$(jq -r .ended_at "$run/steps/server.json")")
  over=$(as_user env SLURM_TIME_FORMAT=%s sacct -X -n -P -o End -j "$job")
  # Slurm's time has whole seconds
  assert_number "seconds from the server's end to the job's" "$(awk "BEGIN { print $over - $ended }")" "<=" 5
  assert_contains "$(output_of "$job")" "no-such-model\.gguf"
  assert_file "$run/report.md"
  assert_clean
}

# e. The same stack without any Slurm: plain processes of one machine.
TIMEOUT_local=300
case_local() {
  local run out=$LOGS/local.out
  as_user_without_slurm node2 bash -c '! command -v srun sbatch squeue && ! env | grep ^SLURM_' || fail "Slurm is in sight"
  as_user_without_slurm node2 bin/aif stack --server "$SERVER" --monitor "$MONITOR" --bench "$BENCH" --local >"$out" 2>&1 ||
    { rc=$?; tail -n 30 "$out" >&2; fail "aif stack ended with $rc"; }
  run=$(find "$T/results" -mindepth 1 -maxdepth 1 -type d -name '*-local-*')
  check_run "$run" "$BENCH"
  check_archive "$run"
  assert_clean
}

# The time limit, told by --signal: the run is closed before Slurm would kill it.
TIMEOUT_time_limit=200
case_time_limit() {
  local job run results
  job=$(submit --time=2 --signal=B:TERM@60 jobs/llamacpp-stack.sh "${LONG[@]}")
  assert_eq "exit code" 124 "$(wait_job "$job" 150)"
  run=$(run_of "$job"); results=$run/bench/$BENCH/results.json
  assert_file "$results" "$run"/{manifest.json,report.html,report.md}
  assert_json "$results" '.completeness' '"interrupted"'
  assert_json "$results" '.successes > 0' true
  assert_json "$run/manifest.json" '[.state, .exit]' '["interrupted","time_limit"]'
  check_archive "$run"
  assert_clean
}

# Nobody tells of the time limit: the bench stops while the engine can still end what is in flight.
TIMEOUT_time_limit_untold=200
case_time_limit_untold() {
  local job run results
  sed '/^#SBATCH --signal/d' "$T/jobs/llamacpp-stack.sh" >"$T/jobs/tests-untold.sh"
  job=$(submit --time=1 jobs/tests-untold.sh "${LONG[@]}")
  assert_eq "exit code" 124 "$(wait_job "$job" 150)"
  run=$(run_of "$job"); results=$run/bench/$BENCH/results.json
  assert_file "$results" "$run"/{manifest.json,report.html,report.md}
  assert_json "$results" '.completeness' '"interrupted"'
  assert_json "$run/manifest.json" '[.state, .exit]' '["interrupted","time_limit"]'
  check_archive "$run"
  assert_clean
}

# What the agents cost while a bench runs, without their children; and `aif stop` in the middle of it.
TIMEOUT_cost=240
case_cost() {
  local job run node role pid before after ticks rss
  job=$(submit jobs/llamacpp-stack.sh "${LONG[@]}")
  wait_for_bench "$job"
  sleep 5
  run=$(run_of "$job"); node=$(job_field "$job" BatchHost)
  declare -A pid before
  cpu_ticks() { on_node "$node" awk '{ sub(/^.*\) /, ""); print $12 + $13 }' "/proc/$1/stat"; }
  for role in server monitor; do
    pid[$role]=$(jq -r .pid "$run/steps/$role.json")
    before[$role]=$(cpu_ticks "${pid[$role]}")
  done
  sleep 60
  for role in server monitor; do
    after=$(cpu_ticks "${pid[$role]}")
    ticks=$((after - ${before[$role]}))
    rss=$(on_node "$node" awk '/^VmRSS:/ { print $2 }' "/proc/${pid[$role]}/status")
    echo "aif $role: $rss KiB resident, $ticks ticks of $(getconf CLK_TCK) Hz in 60 s"
    # another build than the release says nothing of the cost
    [ -z "${AIF_BINARY:-}" ] || continue
    assert_number "resident KiB of aif $role" "$rss" "<" 25600
    assert_number "percent of a core of aif $role" "$(awk "BEGIN { print 100 * $ticks / $(getconf CLK_TCK) / 60 }")" "<" 1
  done
  as_user bin/aif stop --job "$job"
  assert_eq "exit code" 143 "$(wait_job "$job" 60)"
  assert_json "$run/bench/$BENCH/results.json" '.completeness' '"interrupted"'
  assert_clean
}
