# shellcheck shell=bash disable=SC2016,SC2034,SC2153,SC2154
# What a site may lack or take away: Prometheus, a place for results, registry and metrics.

# shellcheck source=tests/slurm/cases-stack.sh
. "$LIB/cases-stack.sh"

# Fills a file system of a node to the last block.
fill() { # NODE FOLDER
  on_node "$1" bash -c 'dd if=/dev/zero of="$1/ballast" bs=4k status=none 2>/dev/null; sync -f "$1"; [ "$(stat -f -c %a "$1")" = 0 ]' - "$2" ||
    fail "$2 on $1 is not full"
}
restore_site() {
  on_node node1 umount "$T/full" "$T/full-at-start" "$T/read-only" || true
  on_node node2 umount /usr/bin/prometheus || true
  on_node node3 umount /tmp || true
  on_node node4 umount /tmp || true
  rm -rf "$T"/{closed,full,full-at-start,foreign,read-only}
}

TIMEOUT_failures_site=150
case_failures_site() {
  local group job run results short=(--set workload.duration_seconds=12 --set workload.warmup_seconds=1)
  local closed foreign read_only full full_at_start taken no_prometheus disk disk_at_start
  group=$(id -gn "$CLUSTER_USER")
  trap restore_site EXIT
  # nobody's, somebody else's, read-only on the node, and two small file systems
  install -d -m 555 "$T/closed"; install -d -m 700 "$T/foreign"
  install -d -o "$CLUSTER_USER" -g "$group" -m 700 "$T"/{read-only,full,full-at-start}
  on_node node1 bash -c 'mount --bind "$1" "$1" && mount -o remount,ro,bind "$1"' - "$T/read-only"
  on_node node1 mount -t tmpfs -o size=4m,mode=1777 tmpfs "$T/full"
  on_node node1 mount -t tmpfs -o size=300k,mode=1777 tmpfs "$T/full-at-start"
  # a node without Prometheus, and two whose own disk is full or soon will be
  on_node node2 mount --bind /dev/null /usr/bin/prometheus
  on_node node3 mount -t tmpfs -o size=6m,mode=1777 tmpfs /tmp
  on_node node4 mount -t tmpfs -o size=6m,mode=1777 tmpfs /tmp
  fill node4 /tmp

  stack_on() { local node=$1; shift; submit -p all -w "$node" jobs/llamacpp-stack.sh "${short[@]}" "$@"; }
  closed=$(stack_on node1 --out "$T/closed")
  foreign=$(REGISTRY=$T/foreign stack_on node1)
  read_only=$(REGISTRY=$T/read-only stack_on node1)
  full=$(stack_on node1 --out "$T/full")
  full_at_start=$(stack_on node1 --out "$T/full-at-start")
  no_prometheus=$(stack_on node2)
  taken=$(stack_on node1)
  disk=$(stack_on node3)
  disk_at_start=$(stack_on node4)

  # in the middle of the bench
  wait_for_bench "$disk"; wait_for_bench "$taken"; wait_for_bench "$no_prometheus"
  keep_secrets
  assert_no_secret_in_arguments
  wait_until 30 "metrics of the engine on the disk" on_node node3 bash -c "grep -aq llamacpp: /tmp/aif-monitor-$disk.*/data/wal/*"
  fill node3 /tmp
  run=$(run_of "$taken")
  chown -R root "$run/bench" "$run/steps"
  wait_until 30 "the bench on the small file system" on_node node1 bash -c "jq -e .ready_at '$T'/full/*/steps/bench-$BENCH.json"
  fill node1 "$T/full"

  for job in $closed $foreign $read_only $full $full_at_start $no_prometheus $taken $disk $disk_at_start; do
    wait_job "$job" 90 >/dev/null
  done
  # refused before anything is started, and before a folder is made
  assert_row results_closed "$closed" 73 "no run folder can be made in $T/closed \(.*--out.*Permission denied"
  assert_row registry_foreign "$foreign" 77 "$T/foreign belongs to user 0, not to you; set AIF_REGISTRY"
  assert_row registry_read_only "$read_only" 73 "the registry cannot be written on this node; set AIF_REGISTRY .*Read-only"
  for job in $closed $foreign $read_only; do
    assert_number "seconds of job $job" "$(job_seconds "$job")" "<=" 3
    assert_eq "steps of job $job" "" "$(as_user sacct -n -P -o JobID -j "$job" | grep -E '\.[0-9]+$' || true)"
    assert_eq "run of job $job" "" "$(find "$T/results" -name "*-$job")"
  done

  # no room for the results: said before the load, and not after it
  assert_row results_full_at_start "$full_at_start" 73 "the results could not be written there: .*$T/full-at-start/.*No space left"
  ! on_node node1 grep -q '"message":"Found the service"' "$T/full-at-start/llamacpp-$full_at_start/logs/bench-$BENCH.log" ||
    fail "the bench began without a place for its results"
  # a disk that fills on the way has room for what the bench measured, which was taken at the start
  assert_row results_full "$full" 0 ""
  on_node node1 cat "$T/full/llamacpp-$full/bench/$BENCH/results.json" >"$LOGS/full.json"
  assert_json "$LOGS/full.json" '[.completeness, .errors, .successes > 0]' '["complete",0,true]'
  # a folder that is taken away: what was measured is still told
  assert_row results_taken "$taken" 73 "the results cannot be written: .*/bench/$BENCH/results.json: Permission denied"
  assert_contains "$run/logs/bench-$BENCH.log" "bench $BENCH: .* requests in 12.0 s, no errors"
  assert_file "$run"/report.{md,html}

  # without metrics a run goes on, and says so
  assert_row prometheus_missing "$no_prometheus" 69 "\(exit 69\): Prometheus is not there: put .prometheus. on the PATH .*, or name an image"
  assert_row disk_full "$disk" 73 "the disk of /tmp/aif-monitor-${disk}[^ ]* is full; make room there, or set local_dir"
  assert_row disk_full_at_start "$disk_at_start" 73 "no place for Prometheus's data: the disk of /tmp is full; make room there, or set local_dir"
  for job in $no_prometheus $disk $disk_at_start; do
    run=$(run_of "$job"); results=$run/bench/$BENCH/results.json
    assert_file "$run"/report.{md,html}
    assert_json "$results" '[.completeness, .errors, .validity.verdict]' '["complete",0,"degraded"]'
    assert_json "$results" '.validity.reasons | any(startswith("The monitor was lost"))' true
    assert_json "$run/manifest.json" '[.state, (.problems | length)]' '["failed",1]'
    assert_no_secret_kept "$job" "$run"
  done
  # what was measured before the disk was full is kept
  assert_archived "$(run_of "$disk")" 'count(last_over_time({__name__=~"llamacpp:.*"}[1h]))'
  assert_clean
}
