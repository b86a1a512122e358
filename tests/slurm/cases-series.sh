# shellcheck shell=bash disable=SC2016,SC2034,SC2153,SC2154
# Several loads as one benchmark, against the real engine.

# Four levels of users: each has a folder, the whole says which is shown, and the report has them all.
TIMEOUT_series=180
case_series() {
  local job run bench levels
  job=$(submit jobs/llamacpp-stack.sh --bench llamacpp-sweep \
    --set workload.duration_seconds=3 --set dataset.params.prompt_length=16 --set dataset.params.max_tokens=4)
  assert_eq "exit code" 0 "$(wait_job "$job" 160)"
  run=$(run_of "$job") bench=llamacpp-sweep
  check_run "$run" $bench
  assert_json "$RESULTS" '[.series.levels[].requested]' '[1,2,4,8]'
  assert_json "$RESULTS" '.series.ended' '"complete"'
  assert_json "$RESULTS" '[.series.levels[] | select(.validity.verdict == "invalid")] | length' 0
  levels=$(jq -r '.series.levels[].folder' "$RESULTS")
  for level in $levels; do assert_file "$run/bench/$bench/$level"/{results.json,vllm.json,results.csv}; done
  # the engine counted the tokens of each level as the client did
  for level in $levels; do
    assert_json "$run/bench/$bench/$level/results.json" '.tokens.output.client == .tokens.output.engine' true
  done
  assert_contains "$run/bench/$bench/levels.csv" '^4,levels/04-8users,concurrent_users,8,'
  assert_contains "$run/report.html" 'Latency over throughput'
}
