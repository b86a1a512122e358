# shellcheck shell=bash disable=SC2016,SC2034,SC2153,SC2154
# Server, monitor and bench as three jobs on three nodes that know nothing of each other but the service's name.

# b. In any order; the others may be submitted, and run, when there is no server yet.
apart() { # ROLE...
  local server role bench monitor run results records
  for role; do
    case $role in
      server) server=$(submit -p gpu -w node1 jobs/server.sh "$SERVER") ;;
      bench) bench=$(submit -p gpu -w node2 jobs/bench.sh "$BENCH") ;;
      monitor) monitor=$(submit -p gpu -w node3 jobs/monitor.sh "$MONITOR") ;;
    esac
    # the first of them has to wait for the server, for longer than a look at the registry takes
    [ "$role" = server ] || sleep 3
  done
  assert_eq "exit code of the bench" 0 "$(wait_job "$bench" 200)"
  assert_eq "state of the server after the bench" RUNNING "$(job_state "$server")"
  assert_eq "state of the monitor after the bench" RUNNING "$(job_state "$monitor")"

  results=$(find "$T/results" -path "*-bench-$bench.*/bench/$BENCH/results.json")
  assert_file "$results"
  assert_json "$results" '.target.nodes' '["node1"]'
  assert_json "$results" '.successes > 0 and .validity.verdict != "invalid"' true

  # the registry holds the server, for people and for scripts of the original layout
  records=$(as_user bin/aif services --json)
  jq -e --arg job "$server" '[.. | objects | select(.job_id? == $job and .kind? == "server" and .state? == "ready" and .node? == "node1")] | length == 1' <<<"$records" >/dev/null ||
    fail "aif services --json does not show the server once: $records"
  assert_json "$REGISTRY/$(service).json" '[.job_id, .node]' "[\"$server\",\"node1\"]"
  assert_eq "mode of the registry" 700 "$(stat -c %a "$REGISTRY")"

  as_user bin/aif stop --job "$monitor"
  assert_eq "exit code of the monitor" 0 "$(wait_job "$monitor" 60)"
  run=$(find "$T/results" -mindepth 1 -maxdepth 1 -type d -name "*-monitor-$monitor.*")
  assert_archived "$run" 'count(last_over_time({__name__=~"llamacpp:.*"}[1h]))'
  assert_archived "$run" 'count(last_over_time({__name__=~"aif_bench_.*"}[1h]))'
  as_user bin/aif stop --job "$server"
  assert_eq "exit code of the server" 0 "$(wait_job "$server" 60)"
  assert_clean
}

TIMEOUT_apart=400
case_apart() { apart server bench monitor; }

TIMEOUT_apart_server_last=400
case_apart_server_last() { apart monitor bench server; }

# From a recipe's name to a service and back, as a user types it.
case_submit() {
  local out=$LOGS/submit.out job service; service=$(service)
  as_user bin/aif submit "$SERVER" | tee "$out"
  job=$(sed -n "s/^job \([0-9]*\) submitted: $SERVER$/\1/p" "$out")
  [ -n "$job" ] || fail "aif submit names no job: $(<"$out")"
  assert_contains "$out" "aif wait $service"
  assert_contains "$out" "aif stop --job $job"
  as_user bin/aif wait "$service" --timeout 60s | tee "$out"
  assert_contains "$out" "^$service is ready at http://node[0-9]:[0-9]+ .*, job $job\)"
  as_user bin/aif services --json >"$out"
  assert_json "$out" 'map([.liveness, .record.kind, .record.state, .record.job_id])' "[[\"alive\",\"server\",\"ready\",\"$job\"]]"
  as_user bin/aif status | tee "$out"
  assert_contains "$out" "^job $job .*RUNNING .*on node"
  assert_contains "$out" "server +$service +ready +alive"
  as_user bin/aif stop "$service" | tee "$out"
  assert_contains "$out" "job $job is told to end"
  assert_eq "exit code" 0 "$(wait_job "$job" 45)"
  assert_eq "state of the job" COMPLETED "$(job_state "$job")"
  assert_clean
}

# Several instances of a service by one command, seen and ended by processes that did not start them; a benchmark that is
# run several times gives one result with intervals.
# As the user on a node, which shares the home and nothing of what the head has begun.
as_user_on() { # NODE CMD...
  local node=$1; shift
  "$PROJECT/sbatch/cluster.sh" exec -u "$CLUSTER_USER" -m "$node" -C "$T" -- env AIF_SITE=local AIF_REGISTRY="$REGISTRY" "$@"
}
three_are_ready() { # FILE
  as_user bin/aif services --json >"$1"
  [ "$(jq '[.[].record | select(.state == "ready" and .kind == "server")] | length' "$1")" = 3 ]
}
TIMEOUT_instances=150
case_instances() {
  local out=$LOGS/instances.out list=$LOGS/instances.json job jobs
  as_user bin/aif submit llamacpp-server --count 3 --sbatch=--partition=all >"$out"
  mapfile -t jobs < <(sed -n 's/^job \([0-9]*\) submitted: llamacpp-server$/\1/p' "$out")
  assert_eq "jobs" 3 "${#jobs[@]}"
  wait_until 60 "three instances" three_are_ready "$list"
  assert_eq "jobs of the instances" "$(printf '%s\n' "${jobs[@]}" | sort)" "$(jq -r '.[].record.job_id' "$list" | sort)"
  assert_eq "addresses" 3 "$(jq -r '.[].record.endpoints.api' "$list" | sort -u | wc -l)"
  # the head started them: a process of a node sees and ends them
  as_user_on node3 bin/aif services --json >"$list"
  assert_eq "instances that a node sees" 3 "$(jq '[.[].record | select(.state == "ready")] | length' "$list")"
  as_user_on node3 bin/aif stop llamacpp >"$out"
  for job in "${jobs[@]}"; do assert_eq "exit code of job $job" 0 "$(wait_job "$job" 60)"; done
  assert_clean

  as_user bin/aif submit "$BENCH" --runs 3 --dry-run >"$out"
  assert_contains "$out" '--set workload\.repeats=3$'
  as_user bin/aif submit jobs/bench.sh --runs 3 --dry-run >"$out" 2>&1 && fail "a script has no recipe to be run three times"
  assert_contains "$out" 'arguments for a job script follow after --'
}

# A benchmark that is run three times by one command, and a monitor whose archive another node exports and whose job it ends.
TIMEOUT_runs=240
case_runs() {
  local out=$LOGS/runs.out server monitor bench results run
  server=$(submit -p gpu -w node1 jobs/server.sh "$SERVER")
  monitor=$(submit -p gpu -w node2 jobs/monitor.sh "$MONITOR")
  as_user bin/aif submit "$BENCH" --runs 3 --sbatch=--partition=all --set workload.duration_seconds=5 --set workload.warmup_seconds=0 >"$out"
  bench=$(sed -n "s/^job \([0-9]*\) submitted: $BENCH$/\1/p" "$out")
  assert_eq "exit code of the bench" 0 "$(wait_job "$bench" 150)"
  results=$(find "$T/results" -path "*-bench-$bench*/bench/$BENCH/results.json")
  assert_file "$results"
  assert_eq "runs" 3 "$(find "${results%/*}/levels" -name results.json | wc -l)"
  run=$(find "$T/results" -mindepth 1 -maxdepth 1 -type d -name "*-monitor-$monitor.*")
  as_user_on node3 bin/aif stop --job "$monitor"
  assert_eq "exit code of the monitor" 0 "$(wait_job "$monitor" 60)"
  as_user_on node3 bin/aif export "$run" --query 'count(last_over_time({__name__=~"llamacpp:.*"}[1h]))' --json >"$out"
  assert_json "$out" '.series | length > 0' true
  as_user_on node3 bin/aif stop --job "$server"
  assert_eq "exit code of the server" 0 "$(wait_job "$server" 60)"
  assert_clean
}
