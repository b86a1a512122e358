# shellcheck shell=bash disable=SC2016,SC2034,SC2153,SC2154
# llama.cpp's server as a router: two models of a folder, served by name.

TIMEOUT_router=150
case_router() {
  local out=$LOGS/router.out models=$USER_HOME/.cache/gguf name job run
  as_user bash -c 'mkdir -p "$1" && apptainer exec containers/llamacpp.sif cp /models/SmolLM2-135M-Instruct.Q4_1.gguf "$1/one.gguf" && cp "$1/one.gguf" "$1/two.gguf"' models "$models"
  as_user bin/aif submit llamacpp-router-server >"$out"
  job=$(sed -n 's/^job \([0-9]*\) submitted.*/\1/p' "$out")
  as_user bin/aif wait llamacpp --timeout 60s
  for name in one two; do
    as_user srun -p all -w node2 --mem=1G bin/aif bench "$BENCH" --out "results/$name" \
      --set dataset.params.model_name=$name --set workload.duration_seconds=5 >"$out" 2>&1 || fail "the bench of model $name: $(tail -n 5 "$out")"
    run=$(find "$T/results/$name" -name results.json)
    jq -c '{successes, errors, target: .target.model}' "$run"
    assert_json "$run" '[.successes > 0, .errors, .target.model]' "[true,0,\"$name\"]"
  done
  # each was answered by a process of its own
  assert_contains "$T"/results/*-server-"$job"*/logs/engine-*.log '(--alias|name=)[ "]*one'
  assert_contains "$T"/results/*-server-"$job"*/logs/engine-*.log '(--alias|name=)[ "]*two'
  as_user srun -p all -w node2 --mem=1G bin/aif bench "$BENCH" --out results/three \
    --set dataset.params.model_name=three --set workload.duration_seconds=5 >"$out" 2>&1 && fail "a model that is not there was loaded"
  assert_contains "$out" "model 'three' not found"
  as_user bin/aif stop --job "$job"
  assert_eq "exit code of the server" 0 "$(wait_job "$job" 45)"
  rm -rf "$models"
  assert_clean
}
