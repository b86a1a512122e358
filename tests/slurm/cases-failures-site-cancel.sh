# shellcheck shell=bash disable=SC2016,SC2034,SC2153,SC2154
# scancel: of a job at every stage of its life, and of a single step of it.

# shellcheck source=tests/slurm/cases-stack.sh
. "$LIB/cases-stack.sh"

cancel_step() { # JOB ROLE
  as_user scancel "$1.$(jq -r .step "$(run_of "$1")/steps/$2.json")"
}
says() { jq -e "$3" "$(run_of "$1")/steps/$2.json"; } # JOB ROLE FILTER
seconds_since() { echo $(($(date -d "$(jq -r .ended_at "$(run_of "$1")/manifest.json")" +%s) - $2)); } # JOB TIME

TIMEOUT_failures_cancel=150
case_failures_cancel() {
  local job run follower rc=0 out=$LOGS/cancel-wait.out short=(--set workload.warmup_seconds=0)
  local pending followed loading snapshot server bench monitor cancelled loading_at server_at snapshot_at
  # an engine that loads for longer than anybody waits
  cat >"$T/recipes/servers/tests-slow.yaml" <<'YAML'
name: tests-slow
service_name: llamacpp
engine: llamacpp
service: {command: sleep 600, ports: [auto], readiness: {timeout: 10m}}
orchestration:
  resources: {partition: cpu, cpu_cores: 2, memory_gb: 2, gpu_count: 0, time_limit: "00:30:00"}
YAML
  pending=$(submit --begin=now+1hour jobs/llamacpp-stack.sh)
  as_user bin/aif submit --wait --sbatch=--begin=now+1hour jobs/llamacpp-stack.sh >"$out" 2>&1 & follower=$!
  loading=$(submit -p all -w node1 "$(stack_job tests-slow)")
  snapshot=$(submit -p all -w node2 jobs/llamacpp-stack.sh "${short[@]}" --set workload.duration_seconds=5)
  server=$(submit -p all -w node3 jobs/llamacpp-stack.sh "${LONG[@]}")
  bench=$(submit -p all -w node4 jobs/llamacpp-stack.sh "${LONG[@]}")
  monitor=$(submit -p all -w node1 jobs/llamacpp-stack.sh "${short[@]}" --set workload.duration_seconds=15)

  # while it waits
  wait_until 20 "the followed job to be told" grep -q "^waits: BeginTime" "$out"
  followed=$(sed -n 's/^job \([0-9]*\) submitted: .*/\1/p' "$out")
  as_user scancel "$pending" "$followed"
  cancelled=$SECONDS
  # while it loads
  wait_until 30 "the server's step" says "$loading" server .started_at
  as_user scancel "$loading"; loading_at=$(date +%s)
  # one step of a job whose bench runs
  wait_for_bench "$server"; wait_for_bench "$bench"; wait_for_bench "$monitor"
  keep_secrets
  assert_no_secret_in_arguments
  cancel_step "$server" server; cancel_step "$bench" "bench-$BENCH"; cancel_step "$monitor" monitor
  server_at=$(date +%s)
  # while the monitor takes its snapshot
  wait_until 60 "the bench to be over" says "$snapshot" "bench-$BENCH" .ended_at
  as_user scancel "$snapshot"; snapshot_at=$(date +%s)

  wait "$follower" || rc=$?
  assert_eq "exit code of aif submit --wait" 143 $rc
  assert_contains "$out" "^aif: job $followed was cancelled while it waited: nothing was started$"
  echo "row cancelled_pending_followed: exit $rc in $((SECONDS - cancelled)) s at the most: $(grep '^aif: ' "$out")"
  for job in $pending $followed; do
    assert_eq "state of job $job" CANCELLED "$(job_state "$job")"
    assert_eq "what job $job left" "" "$(find "$T" "$T/results" -maxdepth 1 -name "*$job*")"
  done
  echo "row cancelled_pending: nothing is started, nothing is left"

  for job in $loading $snapshot $server $bench $monitor; do wait_job "$job" 90 >/dev/null; done
  assert_row cancelled_loading "$loading" 143 ""
  assert_number "seconds to the end of what was loading" "$(seconds_since "$loading" "$loading_at")" "<=" 10
  run=$(run_of "$loading")
  assert_file "$run"/report.{md,html}
  assert_json "$run/manifest.json" '[.state, .exit, (.problems | length)]' '["interrupted","terminated",0]'

  assert_row cancelled_snapshot "$snapshot" 143 ""
  assert_number "seconds to the end of what took its snapshot" "$(seconds_since "$snapshot" "$snapshot_at")" "<=" 15
  run=$(run_of "$snapshot")
  assert_json "$run/bench/$BENCH/results.json" '[.completeness, .errors]' '["complete",0]'
  assert_archived "$run" 'count(last_over_time({__name__=~"aif_bench_.*"}[1h]))'

  assert_row cancelled_server_step "$server" 69 "the server ended while a bench was running \(exit 137\): .*STEP $server\.[0-9]+ .*CANCELLED"
  assert_number "seconds to the end of a stack without its server" "$(seconds_since "$server" "$server_at")" "<=" 12
  assert_json "$(run_of "$server")/bench/$BENCH/results.json" '.completeness' '"interrupted"'

  assert_row cancelled_bench_step "$bench" 69 "bench-$BENCH ended with exit 137: .*STEP $bench\.[0-9]+ .*CANCELLED"
  assert_contains "$(run_of "$bench")/report.md" "results.json: not there"

  assert_row cancelled_monitor_step "$monitor" 0 "the monitor ended by itself \(exit 137\), it is started again: .*STEP $monitor\.[0-9]+ .*CANCELLED"
  run=$(run_of "$monitor")
  assert_json "$run/bench/$BENCH/results.json" '[.completeness, .errors, .validity.verdict]' '["complete",0,"degraded"]'
  assert_json "$run/bench/$BENCH/results.json" '.validity.reasons | any(startswith("The monitor was lost"))' true
  assert_archived "$run" 'count(last_over_time({__name__=~"llamacpp:.*"}[1h]))'

  for job in $loading $snapshot $server $bench $monitor; do assert_no_secret_kept "$job" "$(run_of "$job")"; done
  assert_clean
}
