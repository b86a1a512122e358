# shellcheck shell=bash disable=SC2016,SC2034,SC2153,SC2154
# Alerts on real failures of a real engine, and that a run's archive answers as its Prometheus did.

alerts_of() { echo "$(run_of "$1")/metrics/alerts.json"; } # JOB
answers() { # JOB : the bench has had answers
  wait_until 90 "answers of job $1" bash -c "jq -e '.successes > 0' '$T'/results/*-$1/bench/$BENCH/results.json"
}
has_alert() { # RUN SELECTOR : fires at the moment
  as_user bin/aif export "$1" --query "ALERTS{alertstate=\"firing\",$2}" --json | jq -e '.series | length > 0'
}
# one answer, in an order of its own
export_of() { as_user bin/aif export "$@" --json | jq -cS '.series | sort_by(.labels | tostring)'; }

TIMEOUT_alerts_stall=200
case_alerts_stall() {
  local job run at start query file direct url key name
  job=$(submit -p all jobs/llamacpp-stack.sh --set monitor:alerts.target_down.for=4s --set workload.duration_seconds=50)
  answers "$job"
  run=$(run_of "$job")
  ! has_alert "$run" 'alertname!=""' || fail "an alert fires while all is well"
  signal_engine "$job" STOP
  wait_until 40 "the alert of an engine that hangs" has_alert "$run" 'alertname="TargetDown",job="engine"'
  # what is kept while the run goes on
  wait_until 10 "the alert in the run" jq -e '.episodes | any(.alert == "TargetDown")' "$(alerts_of "$job")"
  signal_engine "$job" CONT

  # figures of the export are those of a direct query; they are kept, to be compared with the archive's
  sleep 6
  at=$(date +%s) start=$((at - 20)) at=$((at - 2))
  url=$(jq -r .facts.url "$run/steps/monitor.json")
  key=$(as_user cat "$(as_user jq -r .auth.key_file "$(grep -l '"kind": *"monitor"' "$REGISTRY"/*/*-"$job"*.json | head -1)")")
  : >"$T/live"
  while read -r name query; do
    export_of "$run" --query "$query" --at "$at" | sed "s/^/$name instant /" >>"$T/live"
    export_of "$run" --query "$query" --start "$start" --end "$at" --step 1s | sed "s/^/$name range /" >>"$T/live"
    direct=$(on_node "$(job_field "$job" BatchHost)" curl -sf -u "aif:$key" --data-urlencode "query=$query" -d "time=$at" "$url/api/v1/query" |
      jq -cS '[.data.result[] | {labels: .metric, points: [[(.value[0]), (.value[1] | tonumber)]]}] | sort_by(.labels | tostring)')
    [ "$(grep "^$name instant " "$T/live" | cut -d' ' -f3- | jq -cS '[.[] | .points |= map(map(tonumber? // .))]')" = "$(jq -cS '[.[] | .points |= map(map(tonumber? // .))]' <<<"$direct")" ] ||
      fail "the export of $query differs from a direct query: $direct"
  done <<<"$QUERIES"
  assert_number "answers that are not empty" "$(grep -vc ' \[\]$' "$T/live")" ">=" 8
  # a stranger on the node is told nothing
  assert_eq "what a stranger is told" 401 "$(on_node "$(job_field "$job" BatchHost)" curl -s -o /dev/null -w '%{http_code}' "$url/api/v1/query?query=up")"

  assert_eq "exit code" 0 "$(wait_job "$job")"
  file=$(alerts_of "$job")
  assert_json "$file" '[.episodes[] | select(.alert == "TargetDown" and .labels.job == "engine") | [.severity, (.fired_at != null), (.ended_at != null)]]' '[["critical",true,true]]'
  jq -c '.episodes[] | {row: .alert, since, fired_at, ended_at, job: .labels.job}' "$file"
  assert_contains "$run/report.md" '^\| TargetDown \| critical \|.*\| fired, was over \| role server, job engine,'
  assert_contains "$run/report.html" '>TargetDown</span>'
  assert_contains "$(output_of "$job")" '^  alert   TargetDown \(critical\), fired, was over, at '

  # the same questions of the archive, by export and by open
  : >"$T/archived"
  while read -r name query; do
    export_of "$run" --query "$query" --at "$at" | sed "s/^/$name instant /" >>"$T/archived"
    export_of "$run" --query "$query" --start "$start" --end "$at" --step 1s | sed "s/^/$name range /" >>"$T/archived"
  done <<<"$QUERIES"
  diff "$T/live" "$T/archived" || fail "the archive answers otherwise than Prometheus did"
  rm -f "$T/live" "$T/archived"
  assert_clean
}
QUERIES='up up
slots llamacpp:requests_processing
rate rate(aif_bench_requests_total[10s])
ttft histogram_quantile(0.99, rate(aif_bench_time_to_first_token_seconds_bucket[20s]))
alerts ALERTS'

# An engine that is killed: the run ends, or the engine is started again. Both are told.
TIMEOUT_alerts_killed=200
case_alerts_killed() {
  local lost restarted job
  lost=$(submit -p all jobs/llamacpp-stack.sh --set workload.duration_seconds=600)
  restarted=$(submit -p all jobs/llamacpp-stack.sh --set server:service.restart.max=1 --set server:service.restart.backoff=1s --set workload.duration_seconds=40)
  for job in "$lost" "$restarted"; do answers "$job"; signal_engine "$job" KILL; done
  assert_eq "exit code of the lost one" 69 "$(wait_job "$lost")"
  assert_eq "exit code of the restarted one" 0 "$(wait_job "$restarted")"
  for job in "$lost" "$restarted"; do
    jq -c --arg job "$job" '.episodes[] | {row: $job, alert, since, fired_at, ended_at, labels}' "$(alerts_of "$job")"
    assert_json "$(alerts_of "$job")" '[.episodes[] | select(.alert == "EngineLost" and .fired_at != null)] | length' 1
    assert_contains "$(run_of "$job")/report.md" '^\| EngineLost \| critical \|'
    assert_contains "$(output_of "$job")" '^  alert   EngineLost \(critical\), fired'
  done
  assert_clean
}

# A rule of the user's that is no PromQL ends the run before anything is measured, with the rule's name.
case_alerts_faulty_rule() {
  local job
  printf 'name: tests-rule\nservice_name: %s\nprometheus: {scrape_interval: 2s}\nalerts: {rules: [{alert: Mine, expr: "rate(up)"}]}\n' "$(service)" >"$T/recipes/monitors/tests-rule.yaml"
  job=$(submit -p all --cpus-per-task=1 --mem=1G jobs/monitor.sh tests-rule)
  assert_eq "exit code" 65 "$(wait_job "$job")"
  assert_contains "$(output_of "$job")" 'alerts.rules of the recipe cannot be read by Prometheus: "Mine": could not parse expression'
  assert_clean
}
