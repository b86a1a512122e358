# shellcheck shell=bash disable=SC2016,SC2034,SC2153,SC2154
# Grafana beside the monitor: a double of it in an image, for the real one cannot be had here.

on_its_node() { "$PROJECT/sbatch/cluster.sh" exec -u "$CLUSTER_USER" -m "$(job_field "$1" BatchHost)" -- "${@:2}"; } # JOB CMD...
status_shows() { as_user bin/aif status "$1" >"$T/status" && grep -qE -- "$2" "$T/status"; } # JOB PATTERN

TIMEOUT_grafana=300
case_grafana() {
  local job run page port file
  # an image with Python, in which the double is the program that ours starts
  prepare_vllm
  install -m 755 "$PROJECT/tests/data/grafana/grafana" "$T/grafana-double"
  job=$(as_user env APPTAINER_BIND="$T/grafana-double:/usr/local/bin/grafana" sbatch --parsable -p all jobs/llamacpp-stack.sh \
    --grafana containers/vllm-cpu.sif --set workload.duration_seconds=45)
  wait_until 120 "a Grafana that is ready" status_shows "$job" '^  grafana .* ready .* http://127\.0\.0\.1:'
  cat "$T/status"
  page=$(grep -A2 '^  grafana ' "$T/status")
  port=$(sed -n 's|.*its page: ssh -N -L \([0-9]*\):127\.0\.0\.1:\1 -J .*|\1|p' <<<"$page")
  file=$(sed -n 's/.* as user aif with the password in //p' <<<"$page")
  assert_number "the port" "$port" ">" 1024
  assert_eq "without a password" 401 "$(on_its_node "$job" curl -s -o /dev/null -w '%{http_code}' "http://127.0.0.1:$port/")"
  on_its_node "$job" curl -s -u "aif:$(as_user cat "$file")" "http://127.0.0.1:$port/" >"$T/said"
  assert_json "$T/said" . '{"dashboards":["aif-bench","aif-llamacpp","aif-node","aif-vllm"],"prometheus":"success"}'
  ! as_user curl -s -o /dev/null --max-time 3 "http://$(job_field "$job" BatchHost):$port/" || fail "it listens for others than its node"
  assert_eq "exit code" 0 "$(wait_job "$job")"
  run=$(run_of "$job")
  assert_json "$run/steps/monitor.json" '[.facts.grafana_version, .facts.degraded]' '["0.0.0-double",null]'
  ! grep -q Grafana "$run/report.md" || fail "the report complains: $(grep Grafana "$run/report.md")"

  # an image that is not there: all else goes on
  job=$(submit -p all jobs/llamacpp-stack.sh --grafana containers/none.sif --set workload.duration_seconds=5)
  assert_eq "exit code without a Grafana" 0 "$(wait_job "$job")"
  run=$(run_of "$job")
  assert_contains "$run/report.md" 'monitor: degraded: there is no Grafana: no image .*none\.sif'
  assert_archived "$run" 'count(last_over_time({__name__=~"llamacpp:.*"}[1h]))'
  rm -f "$T/grafana-double" "$T/status" "$T/said"
  assert_clean
}
