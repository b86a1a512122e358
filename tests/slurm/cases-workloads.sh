# shellcheck shell=bash disable=SC2016,SC2034,SC2153,SC2154
# The workloads that the original tool promised, each by what the engine says of it: users were one at a time there, a rate
# was not sent, and the length of prompts was ignored.

# The most that a query came to while a bench loaded.
most() { # RUN BENCH QUERY
  local out; out=$(mktemp)
  as_user bin/aif export "$1" --query "$3" --step 1s --json \
    --start "$(jq -r .started_at "$RESULTS")" --end "$(jq -r .ended_at "$RESULTS")" >"$out" || fail "aif export for $2 ended with $?"
  jq '[.series[].points[][1]] | max' "$out"
  rm -f "$out"
}
IN_ENGINE='sum(llamacpp:requests_processing) + sum(llamacpp:requests_deferred)'

TIMEOUT_workloads=600
case_workloads() {
  local job run bench heard
  job=$(submit jobs/llamacpp-stack.sh --bench llamacpp-high-throughput --bench llamacpp-stress --bench llamacpp-long-context \
    --set bench:workload.duration_seconds=20)
  assert_eq "exit code of the job" 0 "$(wait_job "$job" 560)"
  run=$(run_of "$job")
  for bench in "$BENCH" llamacpp-high-throughput llamacpp-stress llamacpp-long-context; do
    # what the client counted is what the engine did, token by token
    check_run "$run" "$bench"
    jq -c --arg bench "$bench" '{$bench, total_requests, errors, verdict: .validity, rate: .generator.achieved_rate, tokens, prompt: .metrics.input_sequence_length}' "$RESULTS"
    echo "row $bench: at most $(most "$run" "$bench" "$IN_ENGINE") requests in the engine"
    case $bench in
      "$BENCH") assert_eq "users in the engine" 4 "$(most "$run" "$bench" "$IN_ENGINE")" ;;
      llamacpp-stress) assert_eq "users in the engine" 50 "$(most "$run" "$bench" "$IN_ENGINE")" ;;
      llamacpp-high-throughput)
        # sent at its rate, whatever the answers did: all that was due within the window, and the engine read as many prompts
        assert_json "$RESULTS" '.total_requests' 80
        assert_json "$RESULTS" '.generator.achieved_rate | (. - 4 | fabs) <= 4 * 0.02' true
        heard=$(jq '.tokens.prompt.engine / .metrics.input_sequence_length.avg / (20 + 3)' "$RESULTS")
        assert_number "prompts a second that the engine read" "$heard" ">=" 3.8
        assert_number "prompts a second that the engine read" "$heard" "<=" 4.2
        ;;
      llamacpp-long-context)
        # asked for 1792
        assert_json "$RESULTS" '.metrics.input_sequence_length | .min >= 1702 and .max <= 1882' true
        assert_number "prompt tokens that the engine read" "$(jq .tokens.prompt.engine "$RESULTS")" ">=" "$(jq '.total_requests * 1702' "$RESULTS")"
        ;;
    esac
  done
  assert_clean
}
