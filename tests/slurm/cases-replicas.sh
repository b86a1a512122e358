# shellcheck shell=bash disable=SC2016,SC2034,SC2153,SC2154
# Several instances of a service in one job: a load is dealt out to all, and a result tells what each got.

two_are_ready() { # FILE
  as_user bin/aif services --json >"$1"
  [ "$(jq '[.[].record | select(.state == "ready" and .kind == "server")] | length' "$1")" = 2 ]
}
TIMEOUT_replicas=150
case_replicas() {
  local job bench results
  job=$(submit --partition=gpu --nodes=2 --ntasks=2 jobs/server.sh "$SERVER")
  wait_until 60 "two instances" two_are_ready "$LOGS/replicas.json"
  assert_json "$LOGS/replicas.json" 'map(.record.node) | sort' '["node1","node2"]'
  bench=$(submit --partition=all -w node3 jobs/bench.sh "$BENCH" --set workload.duration_seconds=8)
  assert_eq "exit code of the bench" 0 "$(wait_job "$bench" 60)"
  results=$(find "$T/results" -path "*-bench-$bench.*/bench/$BENCH/results.json")
  jq -c '{total_requests, target}' "$results"
  # in turn: neither has more than one request more, but for those of the window's ends
  assert_json "$results" '.target.requests | length == 2 and (.[0] - .[1] | fabs) <= 4' true
  assert_json "$results" '[(.target.requests | add) == .total_requests, .target.failed]' '[true,[0,0]]'
  assert_json "$results" '.tokens | .output.client == .output.engine and .output.client > 0' true

  # one of them dies while it is loaded
  bench=$(submit --partition=all -w node3 jobs/bench.sh "$BENCH" --set workload.duration_seconds=14)
  wait_until 60 "the bench to send" bash -c "jq -e .ready_at '$T'/results/*-bench-$bench.*/steps/bench-$BENCH.json"
  # the warm-up takes 3 s; then each answers some, however slow this machine is
  sleep 9
  on_node node2 pkill -KILL -u "$CLUSTER_USER" -x llama-server
  wait_job "$bench" 60 >/dev/null
  results=$(find "$T/results" -path "*-bench-$bench.*/bench/$BENCH/results.json")
  jq -c '{total_requests, errors, validity, target}' "$results"
  assert_json "$results" '.target as $t | [range(2) | select($t.nodes[.] == "node2") | $t.failed[.] > 0 and $t.requests[.] > $t.failed[.]]' '[true]'
  assert_json "$results" '.target as $t | [range(2) | select($t.nodes[.] == "node1") | $t.failed[.]]' '[0]'
  assert_json "$results" '.validity.verdict != "valid"' true
  # the job of both ends by the one that was lost; the other is told to
  as_user bin/aif stop --job "$job"
  assert_eq "exit code of the instances" 69 "$(wait_job "$job" 60)"
  assert_clean
}
