# shellcheck shell=bash disable=SC2016,SC2034,SC2153,SC2154
# Stacks of the same recipes side by side, and Slurm's controller and accounting away while they run.

# shellcheck source=tests/slurm/cases-stack.sh
. "$LIB/cases-stack.sh"

# Frozen and not ended: a machine of the cluster goes down with its daemons. To everybody else it is the same.
daemon() { on_node head pkill "-$1" -x "$2"; } # SIGNAL NAME
array_tasks() { as_user squeue -h -r -j "$1" -o %A | sort -n; }
# written by a bench every ten seconds
has_checkpoint() { jq -e '.completeness == "running"' "$(run_of "$1")/bench/$BENCH/results.json"; }
is_closed() { jq -e '.state != "running"' "$(run_of "$1")/manifest.json"; }

TIMEOUT_failures_together=180
case_failures_together() {
  local array job jobs run frozen_at short=(--set workload.duration_seconds=15 --set workload.warmup_seconds=1)
  trap 'daemon CONT slurmctld; daemon CONT slurmdbd' EXIT
  # two tasks of an array on one node, and a third stack on another
  array=$(submit -p all -w node1 --array=0-1 jobs/llamacpp-stack.sh "${short[@]}")
  jobs=$(submit -p all -w node2 jobs/llamacpp-stack.sh "${short[@]}")
  wait_until 20 "both tasks of the array" bash -c "[ \$('$PROJECT/sbatch/cluster.sh' exec -- squeue -h -r -t R -j $array -o %A | wc -l) = 2 ]"
  jobs="$jobs $(array_tasks "$array" | xargs)"
  for job in $jobs; do wait_for_bench "$job"; done
  keep_secrets
  assert_no_secret_in_arguments

  # The controller is away in the middle of the benches, the accounting until the end. (A controller that is away when
  # steps end makes Slurm hold the job for another minute, whatever the steps were.)
  daemon STOP slurmctld; daemon STOP slurmdbd
  frozen_at=$SECONDS
  for job in $jobs; do wait_until 30 "a bench that goes on without the controller" has_checkpoint "$job"; done
  daemon CONT slurmctld
  echo "the controller was away for $((SECONDS - frozen_at)) s"
  for job in $jobs; do wait_until 60 "the run of $job to be closed" is_closed "$job"; done
  daemon CONT slurmdbd

  for job in $jobs; do
    wait_job "$job" 60 >/dev/null
    assert_row "without_controller_$job" "$job" 0 ""
    run=$(run_of "$job")
    check_run "$run" "$BENCH"
    assert_json "$RESULTS" '.errors' 0
    assert_json "$run/manifest.json" '[.state, .problems, (.accounting.error | startswith("sacct "))]' '["complete",[],true]'
    assert_contains "$run/report.html" "sacct (refused|did not answer)"
    # its own engine, and its own series alone
    assert_json "$RESULTS" '.target.instances | map(split(".")[0])' "[\"server-$job\"]"
    as_user bin/aif export "$run" --query 'count by (instance_id, job_id) (last_over_time(up[1h]))' --json >"$LOGS/instances"
    assert_json "$LOGS/instances" '[.series[].labels.instance_id | split(".")[0]] | sort' "[\"bench-$job\",\"monitor-$job\",\"server-$job\"]"
    assert_json "$LOGS/instances" '[.series[].labels.job_id] | unique' "[\"$job\"]"
    as_user bin/aif export "$run" --query 'count by (instance_id) (last_over_time(llamacpp:tokens_predicted_total[1h]))' --json >"$LOGS/instances"
    assert_json "$LOGS/instances" '[.series[].labels.instance_id | split(".")[0]]' "[\"server-$job\"]"
    assert_no_secret_kept "$job" "$run"
  done
  assert_clean
}
