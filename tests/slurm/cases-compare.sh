# shellcheck shell=bash disable=SC2016,SC2034,SC2153,SC2154
# Runs held against each other: the real engine with as many slots as users, the same again, and with half of them.

TIMEOUT_compare=500
case_compare() {
  local name job told rc load slots args
  declare -A run
  # short prompts and longer answers: who waits for a slot waits for a whole answer
  load=(--set workload.duration_seconds=60 --set workload.warmup_seconds=3 --set dataset.params.prompt_length=12 --set dataset.params.max_tokens=24)
  args='[llama-server, -m, /models/SmolLM2-135M-Instruct.Q4_1.gguf, --host, "{host}", --port, "{port}", --alias, smollm2-135m,'
  for name in four again two; do
    slots=4; [ $name != two ] || slots=2
    # one after another, so that they do not disturb each other
    job=$(submit jobs/llamacpp-stack.sh "${load[@]}" --set \
      "server:service.container.args=$args -c, \"8192\", -np, \"$slots\", -t, \"1\", --metrics, --sse-ping-interval, \"2\"]")
    assert_eq "exit code of $name" 0 "$(wait_job "$job" 120)"
    run[$name]=$(run_of "$job")
  done
  told=$LOGS/compare.json
  compare() { rc=0; as_user bin/aif compare "$@" || rc=$?; }

  # the same twice: the same load, image and flags, and no rule for so large a difference is broken
  compare "${run[four]}" "${run[again]}" --json --fail-if 'request_throughput < -50%' >"$told"
  assert_eq "exit code of equal runs" 0 "$rc"
  assert_json "$told" '[.same[].name] | (index("stimulus") and index("image digest") and index("flag -np")) != null' true
  assert_json "$told" '[.differs[].name] | index("flag -np")' null
  echo "equal runs: $(jq -c '[.pairs[0].differences[] | select(.verdict != "cannot_tell") | {metric, statistic, percent}]' "$told")"

  # half the slots: half of the users wait for their first token
  compare "${run[four]}" "${run[two]}" --json --fail-if 'time_to_first_token.p50 > +20%' >"$told"
  jq -r '.pairs[0].differences[] | select(.statistic == "mean" or .statistic == "p50") |
    "\(.metric) \(.statistic): \(.a) \(.b) \(.percent) % \(.interval.percent) \(.verdict)"' "$told"
  assert_json "$told" '.differs[] | select(.name == "flag -np") | .values' '["4","2"]'
  assert_json "$told" '[.same[].name] | (index("stimulus") and index("machine")) != null' true
  assert_eq "exit code of fewer slots" 81 "$rc"
  for number in time_to_first_token:mean time_to_first_token:p50; do
    assert_json "$told" ".pairs[0].differences[] | select(.metric == \"${number%:*}\" and .statistic == \"${number#*:}\") | .verdict" '"worse"'
  done
  compare "${run[four]}" "${run[two]}" --fail-if 'time_to_first_token.p50 > +20%' | tee "$LOGS/compare.txt"
  assert_contains "$LOGS/compare.txt" '^The same: stimulus, .*image'
  assert_contains "$LOGS/compare.txt" '^  digest, node, machine'
  assert_contains "$LOGS/compare.txt" '^  flag -np  *A 4  *B 2'
  # by name, and by the ids of their jobs, several as one side
  compare "$(basename "${run[four]}"),${run[again]##*-}" "${run[two]##*-}" --format html --out compare.html
  assert_eq "exit code of runs taken together" 0 "$rc"
  assert_contains "$T/compare.html" 'time to first token'

  as_user bin/aif report results --index >"$LOGS/index.txt"
  for name in four again two; do assert_contains "$LOGS/index.txt" "$(basename "${run[$name]}")"; done
  assert_file "$T/results"/index.{html,json}
}
