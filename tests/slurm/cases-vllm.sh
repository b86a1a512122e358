# shellcheck shell=bash disable=SC2016,SC2034,SC2153,SC2154
# vLLM for real: the CPU build under the name that the recipes of a GPU cluster ask for.

RECORDED='vllm_requests_total vllm:e2e_request_latency_seconds_count
vllm_request_duration_seconds_bucket vllm:e2e_request_latency_seconds_bucket
vllm_request_duration_seconds_sum vllm:e2e_request_latency_seconds_sum
vllm_request_duration_seconds_count vllm:e2e_request_latency_seconds_count
vllm_time_to_first_token_seconds_bucket vllm:time_to_first_token_seconds_bucket
vllm_time_to_first_token_seconds_count vllm:time_to_first_token_seconds_count
vllm_num_requests_running vllm:num_requests_running
vllm_gpu_cache_usage_perc vllm:kv_cache_usage_perc'
highest() { # RUN METRIC
  as_user bin/aif export "$1" --query "max(max_over_time(${2}[1h]))" --json | jq -c '.series[0].points[0][1]'
}

check_vllm_run() { # RUN BENCH
  check_run "$1" "$2"
  jq -c '{requests: .total_requests, errors, tokens, verdict: .validity.verdict, node: .target.nodes}' "$RESULTS"
  # an older and the present name of the same metric, both by the one name
  local name; for name in vllm:gpu_cache_usage_perc vllm:kv_cache_usage_perc vllm:time_per_output_token_seconds_count vllm:inter_token_latency_seconds_count; do
    assert_archived "$1" "last_over_time(${name}[1h])"
  done
  # the original tool's names, recorded over the real series: the same figures
  local recorded real got want
  while read -r recorded real; do
    want=$(highest "$1" "$real") got=$(highest "$1" "$recorded")
    echo "row $recorded: $got, $real: $want"
    [ "$got" != null ] || fail "no series $recorded"
    assert_eq "$recorded against $real" "$want" "$got"
  done <<<"$RECORDED"
}

# What the report draws of the engine, over time; of LINES, each has been more than nothing.
assert_engine_charts() { # RUN LINES...
  local run=$1; shift
  assert_json "$run/metrics/series.json" '[.problem, ([.charts[] | select(.group == "engine") | .title] | sort)]' \
    '[null,["Batch of the engine","KV cache of the engine","Requests in the engine","Tokens of the engine"]]'
  # a line of gaps alone is none
  assert_json "$run/metrics/series.json" '[.charts[] | select(.group == "engine") | .panels[].lines[] | (.values | map(select(. != null)) | length) > 2] | [length >= 6, all]' '[true,true]'
  local line; for line; do
    assert_json "$run/metrics/series.json" "[.charts[] | select(.group == \"engine\") | .panels[].lines[] | select(.name == \"$line\") | .values | map(values) | max > 0]" '[true]'
  done
}

# The recipes of the original, as they are: a script with modules, a fixed port, a model of the hub.
TIMEOUT_vllm=500
case_vllm() {
  local job run
  prepare_vllm
  job=$(submit jobs/vllm-stack.sh)
  assert_eq "exit code of the job" 0 "$(wait_job "$job" 240)"
  run=$(run_of "$job")
  check_vllm_run "$run" vllm-simple-test
  phases "$job" "$run" vllm-simple-test
  # three users who think five times as long as they wait, looked at every 15 s: what is in the engine just then may be nothing
  assert_engine_charts "$run" made
  assert_panels "$run" aif-vllm aif-bench aif-node -- "${NOT_HERE[@]}"
  assert_contains "$(output_of "$job")" "report\.html"
  assert_clean
}

# A key, a port of its own, and the engine on a node of another component than monitor and bench.
TIMEOUT_vllm_het=400
case_vllm_het() {
  local out=$LOGS/vllm-het.out rc=0 job run
  prepare_vllm
  as_user env AIF_SERVER=vllm-cpu-server AIF_BENCH=vllm-tiny-test bin/aif submit --wait jobs/vllm-hetjob.sh -- \
    --set bench:workload.duration_seconds=15 --set monitor:prometheus.scrape_interval=1s >"$out" 2>&1 || { rc=$?; tail -n 30 "$out" >&2; fail "aif submit ended with $rc"; }
  job=$(sed -n 's/^job \([0-9]*\) submitted.*/\1/p' "$out")
  run=$(run_of "$job")
  check_vllm_run "$run" vllm-tiny-test
  phases "$job" "$run" vllm-tiny-test
  # users who do not think
  assert_engine_charts "$run" made running "in use"
  assert_json <(jq -s '(map(select(.role == "server").node)[0]) as $engine | map(select(.role != "server").node) | unique | map(. != $engine) | all' "$run"/steps/*.json) . true
  assert_clean
}

# The original's recipes as three jobs, by name; the server is told to end while it has requests under way.
TIMEOUT_vllm_apart=400
case_vllm_apart() {
  local name job results
  declare -A jobs
  prepare_vllm
  for name in vllm-server vllm-monitor vllm-simple-test; do
    as_user bin/aif submit $name >"$LOGS/$name.out" || fail "aif submit $name"
    jobs[$name]=$(sed -n "s/^job \([0-9]*\) submitted: $name$/\1/p" "$LOGS/$name.out")
  done
  assert_eq "exit code of the bench" 0 "$(wait_job "${jobs[vllm-simple-test]}" 300)"
  results=$(find "$T/results" -path "*-bench-${jobs[vllm-simple-test]}*/bench/vllm-simple-test/results.json")
  assert_json "$results" '.successes > 0 and .errors == 0 and .tokens.output.client == .tokens.output.engine and .tokens.prompt.client == .tokens.prompt.engine' true
  for name in vllm-monitor vllm-server; do as_user bin/aif stop --job "${jobs[$name]}"; done
  for name in vllm-monitor vllm-server; do
    assert_eq "exit code of $name" 0 "$(wait_job "${jobs[$name]}" 60)"
  done
  assert_archived "$(find "$T/results" -mindepth 1 -maxdepth 1 -type d -name "*-monitor-${jobs[vllm-monitor]}*")" 'last_over_time(vllm:gpu_cache_usage_perc[1h])'
  assert_clean
}

# Cancelled while it loads, which takes vLLM half a minute even for a tiny model.
TIMEOUT_vllm_cancelled=150
case_vllm_cancelled() {
  local job run t0
  prepare_vllm
  job=$(submit jobs/vllm-stack.sh)
  wait_until 60 "the engine's first words" bash -c "grep -qs . '$T'/results/*-$job/logs/*engine*"
  sleep 6
  t0=$SECONDS
  as_user scancel "$job"
  wait_job "$job" 45 >/dev/null
  echo "row cancelled while loading: $((SECONDS - t0)) s"
  assert_number "seconds from scancel to the end" $((SECONDS - t0)) "<" 20
  run=$(run_of "$job")
  assert_file "$run"/{manifest.json,report.md}
  assert_clean
}

# The prompt is no single word: on a CPU with AMX the worker of vLLM 0.32 dies (SIGILL) of a first prompt of a few tokens.
eight_streams() { # URL KEY TOKENS
  on_node node1 bash -c 'for n in $(seq 8); do
    curl -sN -m 60 "$1/v1/completions" -H "Authorization: Bearer $2" -H "Content-Type: application/json" \
      -d "{\"model\":\"tiny-llama\",\"prompt\":\"$5\",\"max_tokens\":$3,\"ignore_eos\":true,\"stream\":true}" >"$4/stream-$n" &
  done; wait' streams "$1" "$2" "$3" "$T" "$(seq -s ' ' 40)"
}

# Cancelled with streams under way: they are answered to their end, and all is over before Slurm kills (KillWait, 30 s).
TIMEOUT_vllm_streams=300
case_vllm_streams() {
  local job run list=$LOGS/vllm-streams.json url key n t0 streams told ended
  prepare_vllm
  as_user bin/aif submit vllm-cpu-server >"$LOGS/vllm-streams.out"
  job=$(sed -n 's/^job \([0-9]*\) submitted.*/\1/p' "$LOGS/vllm-streams.out")
  as_user bin/aif wait vllm --timeout 200s
  as_user bin/aif services --json >"$list"
  url=$(jq -r '.[0].record.endpoints.api' "$list") key=$(<"$(jq -r '.[0].record.auth.key_file' "$list")")
  # its key is wanted, and no other
  code() { on_node node1 curl -s -m 10 -o /dev/null -w '%{http_code}' "$@" "$url/v1/models"; }
  assert_eq "without a key" 401 "$(code)"
  assert_eq "with a wrong key" 401 "$(code -H 'Authorization: Bearer guessed')"
  assert_eq "with the key" 200 "$(code -H "Authorization: Bearer $key")"
  # as many tokens as this machine makes in some 6 s: they last until the test has cancelled, and end within --shutdown-timeout
  # the first are slow, and would make the measured ones short
  eight_streams "$url" "$key" 20
  t0=${EPOCHREALTIME/./}
  eight_streams "$url" "$key" 100
  n=$((100 * 6000000 / (${EPOCHREALTIME/./} - t0)))
  rm -f "$T"/stream-*
  eight_streams "$url" "$key" $((n < 1900 ? n : 1900)) &
  streams=$!
  for n in $(seq 8); do wait_until 20 "stream $n" test -s "$T/stream-$n"; done
  assert_eq "streams that ended before the test began" 0 "$(grep -lF 'data: [DONE]' "$T"/stream-* | wc -l)"
  as_user scancel "$job"
  wait "$streams"
  wait_job "$job" 45 >/dev/null
  run=$(find "$T/results" -mindepth 1 -maxdepth 1 -type d -name "*-server-$job*")
  # who was killed leaves no last word
  wait_until 40 "the server's last word" bash -c "jq -e .exit '$run/steps/server.json'"
  assert_json "$run/steps/server.json" .exit '"done"'
  told=$(seconds_of "$(grep -a 'Received a signal to end' "$(output_of "$job")" | head -n 1 | jq -r .time)")
  ended=$(seconds_of "$(jq -r .ended_at "$run/steps/server.json")")
  echo "row cancelled with 8 streams: $(awk -v a="$told" -v b="$ended" 'BEGIN { printf "%.1f", b - a }') s"
  assert_number "seconds from TERM to the end" "$(awk -v a="$told" -v b="$ended" 'BEGIN { print b - a }')" "<" 28
  for n in $(seq 8); do
    assert_contains "$T/stream-$n" '"finish_reason":"length"'
    assert_contains "$T/stream-$n" 'data: \[DONE\]'
  done
  rm -f "$T"/stream-*
  assert_clean
}
