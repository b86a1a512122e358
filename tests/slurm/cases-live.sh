# shellcheck shell=bash disable=SC2016,SC2034,SC2153,SC2154
# The page of a run that goes on: who knows the password sees it grow, and it becomes the report.

fetch() { # CURL'S OPTIONS... : the page, from the login node, as `aif status` says it is reached
  as_user curl -s -o "$T/page.html" -w '%{http_code}' --max-time 10 "$@" "http://$PLACE/"
}
shows() { [ "$(fetch -u "aif:$PASSWORD")" = 200 ] && grep -qE -- "$1" "$T/page.html"; } # PATTERN
share() { sed -n 's/.*<progress max="1" value="\([0-9.]*\)".*/\1/p' "$T/page.html" | head -1; }

TIMEOUT_live=200
case_live() {
  local job run file first wanted
  job=$(submit -p all jobs/llamacpp-stack.sh --set monitor:alerts.target_down.for=4s --set workload.duration_seconds=45)
  wait_until 90 "a checkpoint of job $job" bash -c "jq -e '.successes > 0' '$T'/results/*-$job/bench/$BENCH/results.json"
  run=$(run_of "$job")

  as_user bin/aif status "$job" >"$T/status"
  assert_contains "$T/status" "its page: ssh -N -L [0-9]+:[^ ]+:[0-9]+ "
  PLACE=$(sed -n 's/.* ssh -N -L [0-9]*:\([^ ]*\) .*/\1/p' "$T/status")
  file=$(sed -n 's/.* as user aif with the password in //p' "$T/status")
  PASSWORD=$(as_user cat "$file")
  ! grep -qF -- "$PASSWORD" "$T/status" || fail "aif status tells the password"
  cat "$T/status"

  assert_eq "without a password" 401 "$(fetch)"
  ! grep -q "$BENCH" "$T/page.html" || fail "a stranger is told what runs"
  assert_eq "with a wrong one" 401 "$(fetch -u aif:wrong)"
  assert_eq "with the agents' key" 401 "$(fetch -H "Authorization: Bearer $(as_user cat "$REGISTRY/scrape.key")")"
  assert_eq "with the password" 200 "$(fetch -u "aif:$PASSWORD")"
  for wanted in '<strong>running</strong>' 'role="status"[^>]*>3 of 3 instances ready, 1 load under way' "Load of $BENCH: [0-9]+ answered, 0 failed" \
    "<h2>Bench $BENCH" '<svg ' '>Requests in the engine<' '>Batch of the engine<' '>Tokens of the engine<' '>CPU<' '>Memory<' 'limit of the job' '>Latencies of the load<'; do
    assert_contains "$T/page.html" "$wanted"
  done
  ! grep -qE '(src|href)="[^#]' "$T/page.html" || fail "the page leads elsewhere: $(grep -oE '(src|href)="[^#][^"]*' "$T/page.html" | head -3)"
  first=$(share)
  assert_number "what is done" "$first" ">" 0

  # an engine that hangs is seen at once
  signal_engine "$job" STOP
  wait_until 40 "the alert on the page" shows '<li>.*TargetDown \(critical\).*job engine'
  signal_engine "$job" CONT
  wait_until 40 "the end of the alert on the page" shows '>fired, was over<'
  assert_number "what is done later" "$(share)" ">" "$first"

  assert_eq "exit code" 0 "$(wait_job "$job")"
  [ "$(fetch -u "aif:$PASSWORD")" != 200 ] || fail "the page is there without the run"
  # what Prometheus saw over time is kept for the report
  assert_json "$run/metrics/series.json" '[.problem, ([.charts[].title] | contains(["Requests in the engine", "Batch of the engine", "Tokens of the engine", "CPU", "Memory"]))]' '[null,true]'
  assert_json "$run/metrics/series.json" '[.charts[].panels[].lines[] | select(.name == "running") | .values | max] | .[0] > 0' true
  assert_contains "$run/report.html" 'Engine and node at the same time'
  assert_contains "$run/report.html" 'Distribution of latencies'
  ! grep -q '<script' "$run/report.html" || fail "a report has no script"
  rm -f "$T/page.html" "$T/status"
  assert_clean
}
