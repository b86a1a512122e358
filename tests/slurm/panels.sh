# shellcheck shell=bash disable=SC2016,SC2034,SC2154
#
# panels.sh - Grafana's dashboards against the archived Prometheus of a run. Sourced by lib.sh.
#
# There is no Grafana here: asked is what it would ask, of the Prometheus, with the login and over the time that the files of
# `aif open --grafana` tell it.

# What the nodes of this cluster do not have: pressure of a job is that of cgroups of version 2.
NOT_HERE=("GPU: % busy" "GPU: GiB" "GPU: W" "GPU: °C" "Network of the node: MB/s of InfiniBand" "Power of the node"
  "Pressure: tasks that wait for CPU, memory or IO: % of time in which a task of the job waited")

told() { sed -n "s/^ *$1: //p" "$T/grafana/provisioning/datasources/aif.yaml"; } # KEY : of the data source

# Every line of every panel of these dashboards, one a line: its panel, its name, and the query with the times that are shown.
lines_of_panels() { # DASHBOARD...
  local board; for board; do
    jq -c '.time as $time | .panels[] | .title as $panel | .targets[] | {panel: $panel, line: .legendFormat, query: .expr, start: $time.from, end: $time.to}' "$T/grafana/dashboards/$board.json"
  done
}

# The questions for curl -K. What rates look back over is four intervals of scrapes, as Grafana makes it.
questions() {
  jq -r -n --arg url "$(told url)/api/v1/query_range" --arg login "$(told basicAuthUser):$(told basicAuthPassword)" --arg step "$(told timeInterval)" --arg folder "$T/grafana/answers" '
    "\(4 * ($step | rtrimstr("s") | tonumber))s" as $window
    | [inputs] | to_entries[] | .key as $number | .value
    | (if $number > 0 then "next" else empty end), "silent", "url = \($url | @json)", "user = \($login | @json)", "output = \("\($folder)/\($number)" | @json)",
      ("query=\(.query | gsub("\\$__rate_interval"; $window))", "start=\(.start)", "end=\(.end)", "step=\($step)" | "data-urlencode = \(@json)")'
}

# Asks the archived Prometheus all of them: $T/grafana/lines, and an answer of each in $T/grafana/answers.
ask_panels() { # RUN DASHBOARD...
  local out=$T/panels.out pid run=$1; shift
  as_user bin/aif open "$run" --grafana grafana >"$out" 2>&1 &
  pid=$!
  wait_until 60 "the archive of $run to be served" grep -q '^Ctrl-C' "$out"
  lines_of_panels "$@" >"$T/grafana/lines"
  questions <"$T/grafana/lines" >"$T/grafana/questions"
  as_user mkdir "$T/grafana/answers"
  as_user curl -K "$T/grafana/questions" || fail "curl ended with $?"
  as_user pkill -TERM -u "$CLUSTER_USER" -x aif || true
  wait "$pid" || fail "aif open ended with $?: $(tail -n 3 "$out")"
}

# Every line of every panel has values, but for the panels that are named.
assert_panels() { # RUN DASHBOARD... -- PANEL...
  local run=$1 boards=() line points number=0 empty=0; shift
  while [ "$1" != -- ]; do boards+=("$1"); shift; done; shift
  ask_panels "$run" "${boards[@]}"
  while read -r line; do
    points=$(jq '[.data.result[].values[][1] | select(. != "NaN")] | length' "$T/grafana/answers/$number") || fail "$line: $(cat "$T/grafana/answers/$number")"
    number=$((number + 1))
    [ "$points" = 0 ] || continue
    printf '%s\n' "$@" | grep -qxF -- "$(jq -r .panel <<<"$line")" || fail "a panel is empty: $line"
    empty=$((empty + 1))
  done <"$T/grafana/lines"
  assert_number "lines of panels" "$number" ">=" 20
  echo "row panels of ${boards[*]}: $((number - empty)) of $number lines have values, $empty are of panels for what is not here"
  rm -rf "$T/grafana" "$T/panels.out"
}
