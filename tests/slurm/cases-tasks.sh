# shellcheck shell=bash disable=SC2016,SC2034,SC2153,SC2154
# One load of several tasks: four nodes send it, and one result tells of it.

# What each task of a load has to have: its node, its part, and a clock that is known well.
check_tasks() { # RESULTS REQUESTS-OF-EACH
  jq -c '.generator | {rate: .achieved_rate, start_spread_ms}, (.tasks[] | {task, node, requests, clock_offset_ms, clock_error_ms, start_skew_ms, lost})' "$1"
  assert_json "$1" '.generator.tasks | map(.node)' '["node1","node2","node3","node4"]'
  assert_json "$1" '.generator.tasks | map(.requests)' "$2"
  # namespaces of one machine share its clock
  assert_json "$1" '.generator.tasks | all(.clock_error_ms < 5 and (.clock_offset_ms | fabs) <= .clock_error_ms + 0.1)' true
  assert_json "$1" '.generator.start_spread_ms < 500' true
}

TIMEOUT_tasks=150
case_tasks() {
  local server job run results pid t0
  server=$(submit -p gpu -w node1 jobs/server.sh "$SERVER")
  as_user bin/aif wait "$(service)" --timeout 60s
  t0=$SECONDS

  # requests that cost little, so that the cases are about the tasks and not about the engine
  derive clients "$BENCH" tests-users -e 's/warmup_seconds: .*/warmup_seconds: 0/' -e 's/prompt_length: 32, max_tokens: 16/prompt_length: 16, max_tokens: 2/'
  derive clients tests-users tests-rate -e '/concurrent_users\|think_time_ms/d' -e 's/duration_seconds: .*/duration_seconds: 8/' -e 's/warmup_seconds: .*/warmup_seconds: 1/' \
    -e 's/pattern: .*/pattern: open-loop\n  requests_per_second: 5\n  arrival: {process: constant}/'

  # by hand: a step of four nodes, at a rate
  as_user srun -p all --nodes=4 --ntasks=4 --mem=1G bin/aif bench tests-rate
  run=$(find "$T/results" -mindepth 1 -maxdepth 1 -type d -name '*-bench-*')
  assert_eq "run folders" 1 "$(wc -l <<<"$run")"
  results=$run/bench/tests-rate/results.json
  assert_json "$results" '[.total_requests, .successes, .completeness]' '[40,40,"complete"]'
  assert_json "$results" '.generator.achieved_rate | (. - 5 | fabs) <= 5 * 0.005' true
  assert_json "$results" '.tokens | .output.client == .output.engine and .prompt.client == .prompt.engine and .output.client > 0' true
  check_tasks "$results" '[12,11,11,11]'
  rm -rf "$run"
  echo "row rate: $((SECONDS - t0)) s"

  # as a job, of which a task is killed: six users, of which each of the first two tasks has two
  job=$(submit -p all --nodes=4 --ntasks=4 --cpus-per-task=1 --mem=1G jobs/bench.sh tests-users --set workload.concurrent_users=6 --set workload.duration_seconds=12)
  wait_until 60 "the bench of four tasks to send" bash -c "jq -e .ready_at '$T'/results/*-bench-$job.*/steps/bench-tests-users.json"
  wait_until 20 "a process of the bench on node3" on_node node3 pgrep -u "$CLUSTER_USER" -x aif
  sleep 6
  pid=$(on_node node3 pgrep -u "$CLUSTER_USER" -x aif)
  on_node node3 kill -KILL "$pid"
  assert_eq "exit code of the job" 137 "$(wait_job "$job" 60)"
  results=$(find "$T/results" -path "*-bench-$job.*/bench/tests-users/results.json")
  jq -c '{successes, verdict: .validity, tasks: [.generator.tasks[] | {node, requests, lost}]}' "$results"
  assert_json "$results" '[.completeness, .validity.verdict]' '["complete","degraded"]'
  assert_json "$results" '.validity.reasons | any(test("lost task 2 on node3 after"))' true
  assert_json "$results" '.generator.tasks | map(.lost != null)' '[false,false,true,false]'
  # what it had told is in the sum
  assert_json "$results" '.generator.tasks[2].requests > 0' true
  assert_json "$results" '(.slices | map(.completed) | add) == (.generator.tasks | map(.requests) | add)' true
  echo "row lost: $((SECONDS - t0)) s"

  # told to end, all end, and what was measured is kept
  job=$(submit -p all --nodes=4 --ntasks=4 --cpus-per-task=1 --mem=1G jobs/bench.sh tests-users --set workload.duration_seconds=300)
  wait_until 60 "the bench of four tasks to send" bash -c "jq -e .ready_at '$T'/results/*-bench-$job.*/steps/bench-tests-users.json"
  sleep 5
  as_user scancel --batch --signal=TERM "$job"
  assert_eq "exit code of the job that was told to end" 143 "$(wait_job "$job" 60)"
  results=$(find "$T/results" -path "*-bench-$job.*/bench/tests-users/results.json")
  assert_json "$results" '[.completeness, .successes > 0]' '["interrupted",true]'
  assert_json "$results" '(.generator.tasks | map(.requests) | add) == .total_requests' true
  echo "row told: $((SECONDS - t0)) s"

  as_user bin/aif stop --job "$server"
  assert_eq "exit code of the server" 0 "$(wait_job "$server" 60)"
  assert_clean
}
