# shellcheck shell=bash disable=SC2016,SC2034,SC2153,SC2154
# What is measured on a node, and how it is told.

# ask NODE AGENT PATH: what an agent answers to who reads the older text format only, as promtool does
ask() {
  on_node "$1" bash -c 'curl -sSf -m 5 -H "@$1" -H "Accept: text/plain" "$2"' - "$T/bearer" "$2$3"
}

has_used_a_second() { # RUN : as its Prometheus knows
  as_user bin/aif export "$1" --query 'last_over_time(aif_job_cpu_seconds_total{role="server"}[1h]) > 1' --json | jq -e '.series | length > 0'
}

ticks_of() { on_node "$1" awk '{ print $14 + $15 }' "/proc/$2/stat"; } # NODE PID : its CPU time, in ticks of 10 ms

# What a scrape of all samplers costs an agent: a figure, and no limit.
cost_of_a_scrape() { # NODE AGENT
  local pid before scrapes=100
  pid=$(on_node "$1" pgrep -u "$CLUSTER_USER" -f '^[^ ]*aif server ' | head -n 1)
  before=$(ticks_of "$1" "$pid")
  on_node "$1" bash -c 'for _ in $(seq "$3"); do curl -sSf -m 5 -o /dev/null -H "@$1" -H "Accept: text/plain" "$2/metrics"; done' - "$T/bearer" "$2" "$scrapes"
  echo "row a scrape of the server's agent: $((($(ticks_of "$1" "$pid") - before) * 10000 / scrapes)) µs of CPU time"
}

# The exporters of server, monitor and bench: Prometheus' own linter has no word against them; every sampler says how it does.
TIMEOUT_node=240
case_node() {
  local job run node record kind agent kinds="" answer=$LOGS/node.answer
  job=$(submit jobs/llamacpp-stack.sh --set workload.duration_seconds=600)
  wait_until 90 "the bench to send" bash -c "jq -e '.ready_at' '$T'/results/*-$job/steps/bench-$BENCH.json"
  run=$(run_of "$job"); node=$(job_field "$job" BatchHost)
  (umask 077; printf 'Authorization: Bearer %s\n' "$(cat "$REGISTRY/scrape.key")" >"$T/bearer")
  for record in "$REGISTRY"/*/*.json; do
    kind=$(jq -r .kind "$record") agent=$(jq -r .endpoints.agent "$record")
    ask "$node" "$agent" /metrics >"$answer" || fail "the agent of the $kind does not answer"
    assert_contains "$answer" "^aif_${kind}_"
    promtool check metrics <"$answer" || fail "promtool finds fault with the $kind"
    kinds="$kinds $kind"
    [ "$kind" = server ] || continue
    cost_of_a_scrape "$node" "$agent"
    ask "$node" "$agent" /instance >"$answer"
    jq -r '.samplers | to_entries[] | "sampler \(.key): \(.value.state) \(.value.reason // "")"' "$answer"
    assert_json "$answer" '.samplers | [.cpu, .load, .memory, .network, .step_processes, .job_processes] | map(.state) | unique' '["healthy"]'
    assert_json "$answer" '.samplers | map(select(.state != "healthy" and (.reason // "") == ""))' '[]'
    assert_json "$answer" '.samplers | map(select(.state == "failed"))' '[]'
    assert_json "$answer" '.samplers.gpu_nvidia' '{"state":"unsupported","reason":"this step was given no GPU"}'
    # where the cluster confines memory, the limit is the job's
    if jq -e '.samplers.job_memory.state == "healthy"' "$answer" >/dev/null; then
      ask "$node" "$agent" /metrics >"$answer"
      assert_eq "the job's limit" 4294967296.0 "$(sed -n 's/^aif_job_memory_limit_bytes //p' "$answer")"
    fi
  done
  rm -f "$T/bearer"
  for kind in server monitor bench; do
    [[ $kinds = *" $kind"* ]] || fail "no $kind among:$kinds"
  done
  # on a quick machine all this took less than the engine needs to use a second
  wait_until 60 "the job to have used a second of CPU time" has_used_a_second "$run"
  as_user bin/aif stop --job "$job"
  assert_eq "exit code" 143 "$(wait_job "$job" 60)"
  assert_archived "$run" 'last_over_time(aif_step_context_switches_total{role="server",kind="voluntary"}[1h])'
  assert_archived "$run" 'last_over_time(aif_job_cpu_seconds_total{role="server"}[1h]) > 1'
  assert_archived "$run" 'last_over_time(aif_node_context_switches_total[1h])'
  assert_json "$run/steps/server.json" '.facts.samplers.cpu' '"healthy"'
  assert_contains "$run/report.html" "this step was given no GPU"
  # a job that was told to end asks accounting nothing: that is said, the rest has its figures
  assert_json "$run/manifest.json" '.phases | map(select(has("seconds")) | .phase)' '["launch","ready","first_token"]'
  assert_clean
}
