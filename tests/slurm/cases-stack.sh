# shellcheck shell=bash disable=SC2016,SC2034,SC2153,SC2154
# The stack in one job, and as local processes.

# Checks a run folder as DESIGN lays it out. Sets RESULTS.
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
check_archive() { # RUN
  assert_archived "$1" 'count(last_over_time({__name__=~"llamacpp:.*"}[1h]))'
  assert_archived "$1" 'count(last_over_time({__name__=~"aif_bench_.*"}[1h]))'
  assert_archived "$1" 'count(last_over_time({__name__=~"aif_node_.*"}[1h]))'
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
  assert_eq "exit code of the job" 0 "$(wait_job "$job" 400)"
  run=$(run_of "$job")
  check_run "$run" "$BENCH"
  check_archive "$run"

  first=$(jq -rs 'map(.started_at) | min' "$run"/steps/*.json)
  last=$(jq -rs 'map(.ended_at) | max' "$run"/steps/bench-*.json)
  called=$(awk -v a="$(seconds_of "$first")" -v b="$(seconds_of "$last")" '$1 >= a && $1 <= b' "$log")
  assert_eq "calls to the controller between first step and last bench" "" "$called"

  # all roles were steps of this one job
  assert_json <(jq -s 'map(.job) | unique' "$run"/steps/*.json) . "[\"$job\"]"
  assert_json <(jq -s 'map(.step) | unique | length' "$run"/steps/*.json) . 3
  assert_contains "$(output_of "$job")" "report\.html"
  assert_clean
}

# c. scancel in the middle of a bench: what was measured is kept, and nothing else.
TIMEOUT_scancel=180
case_scancel() {
  local job run results t0
  job=$(submit jobs/llamacpp-stack.sh --set workload.duration_seconds=120 --set workload.requests_per_user=100000)
  wait_until 90 "the bench to send" bash -c "jq -e '.ready_at' '$T'/results/*-$job/steps/bench-$BENCH.json"
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
