# shellcheck shell=bash disable=SC2016,SC2034,SC2153,SC2154
# Two clusters, one home: what a researcher with accounts on two machines of a centre has.

# The second is a whole cluster, with a network, a controller and accounting of its own.
second() { AIF_CLUSTER_NAME=second AIF_CLUSTER_RUN='' "$PROJECT/sbatch/cluster.sh" "$@"; }
on_cluster() { # here|there CMD... : as the user, on its head
  local name=$1; shift
  if [ "$name" = here ]; then as_user "$@"; return; fi
  second exec -u "$CLUSTER_USER" -C "$T" -- env AIF_SITE=local AIF_REGISTRY="$REGISTRY" "$@"
}
field_on() { on_cluster "$1" scontrol show job "$2" | tr ' ' '\n' | sed -n "s/^$3=//p" | head -1; }
over_on() { [[ $(field_on "$1" "$2" JobState) =~ COMPLETED|FAILED|CANCELLED|TIMEOUT ]]; }
# The folder of a run by the cluster that it ran on.
run_on() { # CLUSTER-NAME PATTERN
  local manifest; for manifest in "$T"/results/$2/manifest.json; do
    [ "$(jq -r .cluster "$manifest")" != "$1" ] || dirname "$manifest"
  done
}

TIMEOUT_two_clusters=300
case_two_clusters() {
  local cluster id run instance name
  declare -A names=([here]=$CLUSTER_NAME [there]=second) jobs
  # Job ids are equal on both, as they are where two clusters count from 1: what is named by them must not become one.
  id=$(submit --hold -p cpu jobs/server.sh "$SERVER"); as_user scancel "$id"
  id=$((id + 1))
  second reset; AIF_CLUSTER_FIRST_JOB=$id second install; second start
  trap 'second stop' EXIT

  for cluster in here there; do
    jobs[$cluster]=$(on_cluster $cluster sbatch --parsable jobs/llamacpp-stack.sh --set workload.duration_seconds=15 --set workload.warmup_seconds=0)
    assert_eq "id of the job $cluster" $id "${jobs[$cluster]}"
  done
  for cluster in here there; do
    wait_until 150 "the stack $cluster" over_on $cluster $id
    assert_eq "exit code $cluster" 0:0 "$(field_on $cluster $id ExitCode)"
    run=$(run_on "${names[$cluster]}" "*-$id*")
    assert_eq "run folders of $cluster" 1 "$(wc -w <<<"$run")"
    assert_json "$run/bench/$BENCH/results.json" '.successes > 0 and .errors == 0 and .tokens.output.client == .tokens.output.engine' true
    # one engine and one bench in the archive, which are the run's own
    as_user bin/aif export "$run" --query 'count by (instance_id) (last_over_time(up[1h]))' --json >"$LOGS/instances"
    assert_json "$LOGS/instances" '[.series[].labels.instance_id] | map(split("-")[0]) | sort' '["bench","monitor","server"]'
    assert_json <(jq -s '.[1].target.instances[0] as $engine | .[0] | [.series[].labels.instance_id] | any(. == $engine)' \
      "$LOGS/instances" "$run/bench/$BENCH/results.json") . true
  done

  # and three jobs apart: each bench finds the engine of its own cluster
  for cluster in here there; do on_cluster $cluster sbatch --parsable -p gpu -w node1 jobs/server.sh "$SERVER" >/dev/null; done
  for cluster in here there; do
    jobs[$cluster]=$(on_cluster $cluster sbatch --parsable -p gpu -w node2 jobs/bench.sh "$BENCH" --set workload.duration_seconds=4 --set workload.warmup_seconds=0)
  done
  for cluster in here there; do
    wait_until 120 "the bench $cluster" over_on $cluster "${jobs[$cluster]}"
    assert_eq "exit code of the bench $cluster" 0:0 "$(field_on $cluster "${jobs[$cluster]}" ExitCode)"
    run=$(run_on "${names[$cluster]}" "*-bench-${jobs[$cluster]}*")
    instance=$(jq -r '.target.instances[0]' "$run/bench/$BENCH/results.json")
    name=$(jq -r .cluster "$REGISTRY/$(service)/$instance.json")
    assert_eq "cluster of the engine that the bench $cluster loaded" "${names[$cluster]}" "$name"
  done
  for cluster in here there; do on_cluster $cluster bin/aif stop "$(service)"; done
  for cluster in here there; do wait_until 60 "the server $cluster" over_on $cluster $((id + 1)); done
  assert_clean
}
