# shellcheck shell=bash disable=SC2016,SC2034,SC2153,SC2154
# A node that is lost, under every kind of job at once: noticing it takes Slurm and leases half a minute each.

# shellcheck source=tests/slurm/cases-stack.sh
. "$LIB/cases-stack.sh"

all_idle() { [ "$(as_user sinfo -h -N -p all -o %T | grep -c '^idle')" = "${#NODES[@]}" ]; }
restore_nodes() {
  local node; for node in "${NODES[@]}"; do "$PROJECT/sbatch/cluster.sh" boot "$node"; done
  as_user scancel --user="$CLUSTER_USER" || true
  wait_until 60 "all nodes to be idle" all_idle
}
# says what a file of a run must say by now
checkpoint() { jq -e '.completeness == "running" and .total_requests > 0' "$T/results/"*"-$1/bench/$BENCH/results.json"; }
lone_bench() { echo "$T/results/lone-bench-$1.batch"; }
is_pending() { [ "$(job_state "$1")" = PENDING ]; }
is_over() { [[ $(job_state "$1") =~ COMPLETED|FAILED|NODE_FAIL ]]; }

TIMEOUT_failures_node=240
case_failures_node() {
  local lost again server bench het requeued lost_at run out=$LOGS/node-lost.out again_out=$LOGS/node-requeued.out
  local follower requeue_follower rc=0 short=(--set workload.warmup_seconds=0 --set workload.duration_seconds=20) node
  trap restore_nodes EXIT
  # node1 is lost to a stack and to a server alone, node2 to a stack that may run again, node3 to the engine of a het job
  as_user bin/aif submit --wait --sbatch=--no-requeue --sbatch=--partition=all --sbatch=--nodelist=node1 jobs/llamacpp-stack.sh \
    -- "${LONG[@]}" --set workload.warmup_seconds=0 >"$out" 2>&1 & follower=$!
  as_user bin/aif submit --wait --sbatch=--partition=all --sbatch=--nodelist=node4 jobs/llamacpp-stack.sh \
    -- "${short[@]}" >"$again_out" 2>&1 & requeue_follower=$!
  again=$(submit -p all -w node2 jobs/llamacpp-stack.sh "${short[@]}")
  server=$(submit -p all -w node1 --no-requeue jobs/server.sh "$SERVER" --set service_name=lone)
  bench=$(submit -p all -w node4 jobs/bench.sh "$BENCH" --set service_name=lone "${LONG[@]}")
  het=$(submit -p all -w node3 --no-requeue : -p all -w node4 jobs/llamacpp-hetjob.sh "${LONG[@]}" --set workload.warmup_seconds=0)
  wait_until 20 "both jobs to be submitted" grep -q submitted "$out" "$again_out"
  lost=$(sed -n 's/^job \([0-9]*\) submitted: .*/\1/p' "$out")
  requeued=$(sed -n 's/^job \([0-9]*\) submitted: .*/\1/p' "$again_out")
  wait_for_bench "$again"; wait_for_bench "$requeued"; wait_for_bench "$het"
  wait_until 30 "the bench alone" jq -e .ready_at "$(lone_bench "$bench")/steps/bench-$BENCH.json"
  for job in $lost $het; do wait_until 40 "a checkpoint of what job $job will lose" checkpoint "$job"; done
  keep_secrets
  assert_no_secret_in_arguments

  as_user scontrol requeue "$requeued"
  for node in node1 node2 node3; do "$PROJECT/sbatch/cluster.sh" crash "$node"; done
  lost_at=$(date +%s)

  # A bench alone is told by nobody: the lease of its service tells it. One in a het job is ended by that or by Slurm.
  wait_until 70 "the bench alone to end" is_over "$bench"
  assert_row node_of_server_lost "$bench" 75 "the service was lost .*node1 has neither renewed its record for 30 s nor answered"
  run=$(lone_bench "$bench")
  assert_number "seconds until the bench ended" $(($(seconds_of_whole "$run/manifest.json") - lost_at)) "<=" 50
  assert_json "$run/bench/$BENCH/results.json" '[.completeness, .successes > 0]' '["interrupted",true]'
  for job in $lost $server $het; do
    wait_until 60 "Slurm to notice that the node of $job is lost" is_over "$job"
    assert_eq "state of job $job" NODE_FAIL "$(job_state "$job")"
  done

  # This one may run again, on another node: on its own, were that back within seconds, Slurm's order to kill the first
  # incarnation would come so late that it meets the second.
  wait_until 30 "the job to be queued again" is_pending "$again"
  as_user scontrol update "JobId=$again" ReqNodeList=node4
  # Nothing is taken for alive. What is dead is cleared when the lease has run out, also while the node is silent.
  as_user bin/aif services --json >"$LOGS/services"
  assert_json "$LOGS/services" '[.[] | select(.record.node | IN("node1", "node3")) | .liveness] | unique - ["dead", "unknown"]' '[]'
  as_user bin/aif services clear >"$LOGS/cleared"
  for job in $lost $server $het; do assert_contains "$LOGS/cleared" "^removed server-$job\."; done
  assert_eq "records of a lost node" "" "$(grep -lE '"node": "node[13]"' -r "$REGISTRY" || true)"

  wait "$follower" || rc=$?
  assert_eq "exit code of aif submit --wait of the job that was lost" 75 $rc
  assert_contains "$out" "^aif: job $lost lost a node \(node1\): submit it again"
  echo "row node_lost: exit $rc in $(job_seconds "$lost") s: $(grep '^aif: ' "$out")"
  run=$(run_of "$lost")
  assert_json "$run/bench/$BENCH/results.json" '[.completeness, .total_requests > 0]' '["running",true]'
  as_user bin/aif report "$lost" >"$LOGS/report"
  assert_contains "$LOGS/report" "killed while it ran"
  assert_file "$run"/report.{md,html}

  run=$T/results/llamacpp-$het
  wait_until 60 "the bench of the het job to end" jq -e .ended_at "$run/steps/bench-$BENCH.json"
  echo "row node_lost_het: $(jq -r '"\(.exit) in \(.ended_at): \(.error)"' "$run/steps/bench-$BENCH.json")"
  assert_number "seconds until the bench of the het job ended" \
    $(($(seconds_of_whole "$run/steps/bench-$BENCH.json") - lost_at)) "<=" 60
  assert_json "$run/bench/$BENCH/results.json" '[.completeness, .successes > 0]' '["interrupted",true]'

  # Queued again: a run of its own, complete, and of the first only what it had.
  for node in node1 node2 node3; do "$PROJECT/sbatch/cluster.sh" boot "$node"; done
  rc=0; wait "$requeue_follower" || rc=$?
  assert_eq "exit code of aif submit --wait of the job that was queued again" 0 $rc
  assert_contains "$again_out" "^is queued again: "
  assert_row requeued "$requeued" 0 ""
  assert_json "$T/results/llamacpp-$requeued/manifest.json" '[.state, .exit]' '["interrupted","terminated"]'
  assert_json "$T/results/llamacpp-$requeued/bench/$BENCH/results.json" .completeness '"interrupted"'
  assert_archived "$T/results/llamacpp-$requeued" 'count(last_over_time({__name__=~"aif_bench_.*"}[1h]))'
  wait_job "$again" 90 >/dev/null
  assert_row node_lost_requeued "$again" 0 ""
  for job in $again $requeued; do
    run=$T/results/llamacpp-$job-r1
    check_run "$run" "$BENCH"
    assert_json "$run/manifest.json" '[.state, .job.restart_count]' '["complete",1]'
    assert_contains "$run/report.md" "^Job $job, restart 1 on node4"
    as_user bin/aif export "$run" --query 'count by (instance_id) (last_over_time(up[1h]))' --json >"$LOGS/instances"
    assert_json "$LOGS/instances" '[.series[].labels.instance_id | split("-")[0]] | sort' '["bench","monitor","server"]'
    assert_no_secret_kept "$job" "$run"
  done
  assert_no_secret_kept "$lost" "$(run_of "$lost")"
  wait_until 60 "all nodes to be idle" all_idle
  assert_clean
}
seconds_of_whole() { date -d "$(jq -r .ended_at "$1")" +%s; }
