# shellcheck shell=bash disable=SC2016,SC2034,SC2153,SC2154
# One engine over two nodes: vLLM's CPU build, its model divided between the ranks.

# Its image takes minutes to make and is kept beside llama.cpp's.
prepare_ranks() {
  local images=$USER_HOME/ai-factories/containers
  "$PROJECT/sbatch/image-vllm.sh" "$images"
  [ -e "$T/containers/vllm-cpu.sif" ] || ln "$images"/vllm-cpu.sif* "$T/containers/"
}
# What everybody is shown: KIND, STATE and NODE of each rank, and its endpoint, if it has one.
shown() { as_user bin/aif services | awk '$1 == "vllm" && $4 ~ /\// { print $3, $4, $5, $7, $8 }'; }
both_serve() { [ "$(shown | sed 's/http:.*/http:/' | xargs)" = "server 0/2 ready node1 http: rank 1/2 ready node2 -" ]; }
# The one error of a job: what its own last words say, without srun's.
said() { grep -aE '^aif: ' "$1" | grep -vE '^aif: (run folder |warning: )'; }

# As a job of its own: ranks, one endpoint, a result, and an orderly end while streams are under way.
TIMEOUT_vllm_ranks=420
case_vllm_ranks() {
  local job bench results run t0 told
  prepare_ranks
  as_user bin/aif submit vllm-two-nodes-server --dry-run >"$LOGS/ranks.out"
  assert_contains "$LOGS/ranks.out" '--nodes=2 --ntasks=2 --ntasks-per-node=1 .*jobs/server.sh'
  as_user bin/aif submit vllm-two-nodes-server >"$LOGS/ranks.out"
  job=$(sed -n 's/^job \([0-9]*\) submitted.*/\1/p' "$LOGS/ranks.out")
  wait_until 60 "both ranks" bash -c "[ \"\$(grep -c 'All ranks are there' '$T'/*-$job.out)\" = 2 ]"
  assert_eq "ranks that load" "server 0/2 starting node1 rank 1/2 starting node2" "$(shown | cut -d' ' -f1-4 | xargs)"
  as_user bin/aif wait vllm --timeout 200s
  # rank 1 asks rank 0 for it
  wait_until 20 "both ranks to serve by one endpoint" both_serve
  run=$(find "$T/results" -mindepth 1 -maxdepth 1 -type d -name "*-server-$job*")
  assert_eq "run folders of both ranks" 1 "$(wc -l <<<"$run")"
  echo "row ranks ready: $(jq -r '.facts.seconds_to_ready | round' "$run/steps/server.json") s"
  # it is vLLM that says so
  assert_contains "$run"/logs/engine-"$job".0.1-*.log 'rank 1 in world size 2 is assigned as .*TP rank 1'

  bench=$(submit --partition=all -w node3 jobs/bench.sh vllm-tiny-test --set workload.duration_seconds=10)
  assert_eq "exit code of the bench" 0 "$(wait_job "$bench" 90)"
  results=$(find "$T/results" -path "*-bench-$bench.*/bench/vllm-tiny-test/results.json")
  jq -c '{successes, errors, tokens, verdict: .validity.verdict, target}' "$results"
  assert_json "$results" '.successes > 0 and .errors == 0 and .validity.verdict != "invalid"' true
  assert_json "$results" '.tokens | .output.client == .output.engine and .prompt.client == .prompt.engine' true
  assert_json "$results" '.target | [.nodes, (.urls | length)]' '[["node1"],1]'

  # the signal before a time limit goes to the batch script, which hands it on; what is under way is answered
  bench=$(submit --partition=all -w node3 jobs/bench.sh vllm-tiny-test --set workload.duration_seconds=120)
  wait_until 60 "the bench to send" bash -c "jq -e .ready_at '$T'/results/*-bench-$bench.*/steps/bench-vllm-tiny-test.json"
  sleep 5
  t0=$SECONDS
  as_user scancel --batch --signal=TERM "$job"
  assert_eq "exit code of the server" 0 "$(wait_job "$job" 60)"
  echo "row told under load: $((SECONDS - t0)) s"
  assert_number "seconds to the end" $((SECONDS - t0)) "<" 40
  for told in server server-1; do assert_json "$run/steps/$told.json" .exit '"done"'; done
  wait_job "$bench" 60 >/dev/null
  assert_clean
}

# In a stack, whose bench is under way when the engine of rank 1 is killed: all ends, and one sentence says which.
TIMEOUT_vllm_ranks_killed=420
case_vllm_ranks_killed() {
  local job run out t0
  prepare_ranks
  job=$(as_user env AIF_SERVER=vllm-two-nodes-server AIF_BENCH=vllm-tiny-test sbatch --parsable --partition=all --gres=none \
    --nodes=2 --ntasks=2 --ntasks-per-node=1 jobs/vllm-stack.sh --set workload.duration_seconds=120)
  wait_until 250 "the bench to send" bash -c "jq -e .ready_at '$T'/results/*-$job/steps/bench-vllm-tiny-test.json"
  run=$(run_of "$job")
  sleep 8
  as_user bin/aif export "vllm-$job" --query 'count by (role) (up{job="agent"})' --json >"$LOGS/ranks-up.json"
  assert_json "$LOGS/ranks-up.json" '[.series[].labels.role] | contains(["rank"])' true
  t0=$SECONDS
  on_node node2 pkill -KILL -u "$CLUSTER_USER" -x vllm
  assert_eq "exit code of the stack" 69 "$(wait_job "$job" 90)"
  out=$(output_of "$job")
  echo "row killed: $((SECONDS - t0)) s: $(said "$out")"
  assert_eq "errors" 1 "$(said "$out" | wc -l)"
  assert_contains "$out" '^aif: the server ended while a bench was running \(exit 69\): rank 1 on node2: the engine ended after it was ready: .*SIGKILL'
  assert_json "$run/steps/server.json" .exit '"unavailable"'
  assert_json "$run/steps/server-1.json" .exit '"unavailable"'
  assert_file "$run"/{manifest.json,report.md}
  assert_clean
}
