# shellcheck shell=bash disable=SC2016,SC2034,SC2153,SC2154
# What fails of engines, ports, services and roles, and how it is told. Rows that only wait share a case: their jobs run side by side.

# One line of the table: job, expected code, and what its one error says.
row() { # NAME JOB CODE PATTERN
  local code out error seconds
  code=$(wait_job "$2" 100)
  # Slurm gives no code of the batch step in which the kernel's killer was
  [ "$(job_state "$2")" != OUT_OF_MEMORY ] || code=oom
  out=$(output_of "$2")
  error=$(grep -a '^aif: ' "$out" | grep -vE '^aif: (run folder|warning:)' || true)
  seconds=$(as_user sacct -X -n -P -o ElapsedRaw -j "$2")
  echo "row $1: exit $code in $seconds s: ${error:-(no error)}"
  [ "$code" = "$3" ] || { tail -n 40 "$out"; fail "row $1: exit code: expected $3, got $code"; }
  grep -qE -- "$4" <<<"$(grep -aE '^(aif: |  \| )' "$out")" || { tail -n 40 "$out"; fail "row $1: the error does not say /$4/"; }
  assert_number "errors of row $1" "$(grep -c . <<<"$error")" "<=" 1
}

# A server recipe around a script, which is read from standard input.
script_server() { # NAME [LINE OF service]...
  local name=$1; shift
  {
    printf 'name: %s\nservice_name: %s\nengine: llamacpp\nservice:\n' "$name" "${SERVICE:-$name}"
    printf '  %s\n' "$@"
    printf '  command: |\n'; sed 's/^/    /'
    printf 'orchestration: {resources: {cpu_cores: 1, memory_gb: 1, gpu_count: 0}}\n'
  } >"$T/recipes/servers/$name.yaml"
}
# The engine of the shipped recipe, as a script starts it.
ENGINE='apptainer exec --pid "$CONTAINER_DIR/llamacpp.sif" llama-server -m /models/SmolLM2-135M-Instruct.Q4_1.gguf --host 0.0.0.0 --port "$PORT" -c 2048 -np 1 -t 1 --metrics --sse-ping-interval 2'
# Holds a script until the test has done its part; the port that it was given is in $T/gate/NAME.
gate() { echo "echo \$PORT >$T/gate/.$1; mv $T/gate/.$1 $T/gate/$1; until [ -e $T/gate/$1.open ]; do sleep 0.1; done"; }
gates() { rm -rf "$T/gate"; install -d -o "$CLUSTER_USER" "$T/gate"; }

server_job() { submit --cpus-per-task=1 --mem=1G -p all "${@:2}" jobs/server.sh "$1"; }

# A stranger on a port of a node: an HTTP server that answers every path with its pid, with SO_REUSEPORT where asked. It ends
# when the case does. Sets STRANGER to its pid.
stranger() { # NODE USER PORT [reuse]
  local held
  cat >"$T/stranger.py" <<'PY'
import http.server, os, sys, threading
class Stranger(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers(); self.wfile.write(b"stranger %d\n" % os.getpid())
    def log_message(self, *_): pass
class Server(http.server.ThreadingHTTPServer):
    allow_reuse_port = sys.argv[2] == "reuse"
if sys.argv[3:] != ["engine"]:
    threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0)), daemon=True).start()
Server(("0.0.0.0", int(sys.argv[1])), Stranger).serve_forever()
PY
  exec {held}> >("$PROJECT/sbatch/cluster.sh" exec -u "$2" -m "$1" -C "$T" -- python3 stranger.py "$3" "${4:-alone}")
  STRANGERS=("$held" "${STRANGERS[@]}")
  wait_until 10 "the stranger on $1:$3" ask_stranger "$1" "$3"
  STRANGER=$(ask_stranger "$1" "$3")
}
STRANGERS=()
ask_stranger() { on_node "$1" curl -sf -m 2 "http://127.0.0.1:$2/health" | sed -n 's/^stranger //p' | grep .; }
# the last one first: it holds the others' pipes
end_strangers() { local held; for held in "${STRANGERS[@]}"; do exec {held}>&-; done; STRANGERS=(); }

# The engine's side: it ends too soon, it never answers, it hears no TERM, its port is somebody else's.
TIMEOUT_engine_failures=200
case_engine_failures() {
  local silent slow mute large larger deaf fixed hidden lost redrawn shared run port
  script_server tests-silent 'readiness: {timeout: 30s}' <<<'exit 0'
  script_server tests-slow 'readiness: {timeout: 6s}' <<<'echo "loading weights, shard 1 of 9"; exec sleep 300'
  SERVICE=llamacpp script_server tests-large 'readiness: {timeout: 30s}' <<<'exec python3 -c "held = bytearray(2 << 30)"'
  SERVICE=llamacpp script_server tests-deaf 'auth: key' <<<"trap '' TERM; $ENGINE & wait"
  gates
  script_server tests-fixed 'ports: [18501]' <<<"$ENGINE"
  script_server tests-hidden 'ports: [18502]' <<<"$ENGINE"
  script_server tests-lost 'ports: [18503]' <<<"$(gate lost); $ENGINE"
  script_server tests-redrawn <<<"$(gate redrawn); $ENGINE"
  script_server tests-shared 'ports: [18504]' <<<"$(gate shared); exec python3 $T/stranger.py \$PORT reuse engine"

  stranger node1 "$CLUSTER_USER" 18501; local first=$STRANGER
  stranger node1 root 18502; local second=$STRANGER
  silent=$(server_job tests-silent)
  slow=$(server_job tests-slow)
  mute=$(submit -p all jobs/llamacpp-stack.sh --set server:service.readiness.path=/never --set server:service.readiness.timeout=8s)
  large=$(submit -p all --mem=800M "$(stack_job tests-large)")
  larger=$(server_job tests-large --mem=800M)
  deaf=$(submit -p all --export=ALL,AIF_GRACE_SECONDS=6 "$(stack_job tests-deaf)" --set workload.duration_seconds=5)
  fixed=$(server_job tests-fixed -w node1)
  hidden=$(server_job tests-hidden -w node1)
  lost=$(server_job tests-lost -w node2)
  redrawn=$(server_job tests-redrawn -w node2)
  shared=$(server_job tests-shared -w node3)

  # between our look at the port and the engine's bind, somebody is faster
  wait_until 60 "the script of the engine whose port is lost" test -e "$T/gate/lost"
  stranger node2 "$CLUSTER_USER" 18503; local third=$STRANGER
  touch "$T/gate/lost.open"
  wait_until 60 "the script of the engine whose drawn port is lost" test -e "$T/gate/redrawn"
  port=$(<"$T/gate/redrawn")
  stranger node2 "$CLUSTER_USER" "$port"; local fourth=$STRANGER
  touch "$T/gate/redrawn.open"
  # both listen, and the kernel chooses who is asked
  wait_until 60 "the script of the engine that shares its port" test -e "$T/gate/shared"
  stranger node3 "$CLUSTER_USER" 18504 reuse; local fifth=$STRANGER
  touch "$T/gate/shared.open"

  row silent "$silent" 69 'ended before it was ready .*stay in the foreground.*: exit code 0; it wrote nothing'
  row slow "$slow" 69 'not ready within 6(\.0)? s .*readiness\.timeout'
  assert_contains "$(output_of "$slow")" 'loading weights, shard 1 of 9'
  row mute "$mute" 69 'not ready within 8(\.0)? s .*/never answers (404|503)'
  # where the machine has the controller by which Slurm limits memory; elsewhere these engines get what they want, and end
  if on_node node1 grep -q '^ConstrainRAMSpace=yes' /etc/slurm/cgroup.conf; then
    row large "$large" 69 '\(exit 69\).* an out-of-memory kill.*ask for more memory \(--mem'
    row larger "$larger" oom 'an out-of-memory kill.*ask for more memory \(--mem'
  else
    row large "$large" 69 'exit code 0'
    row larger "$larger" 69 'exit code 0'
  fi
  row fixed "$fixed" 69 "port 18501 .*process $first \(python3\) of user $CLUSTER_USER"
  row hidden "$hidden" 69 "port 18502 .*process of user root"
  row lost "$lost" 69 "port 18503 .*process $third \(python3\) of user $CLUSTER_USER"

  row shared "$shared" 69 "port 18504 .*process $fifth \(python3\) of user $CLUSTER_USER"
  as_user bin/aif wait tests-redrawn --timeout 30s
  as_user bin/aif stop --job "$redrawn"
  row redrawn "$redrawn" 0 ''

  # nobody touched the strangers
  assert_eq "the stranger on 18501" "$first" "$(ask_stranger node1 18501)"
  assert_eq "the stranger on 18502" "$second" "$(ask_stranger node1 18502)"
  assert_eq "the stranger on 18503" "$third" "$(ask_stranger node2 18503)"
  assert_eq "the stranger on $port" "$fourth" "$(ask_stranger node2 "$port")"
  assert_eq "the stranger on 18504" "$fifth" "$(ask_stranger node3 18504)"
  end_strangers

  row deaf "$deaf" 0 ''
  run=$(run_of "$deaf")
  assert_json "$run/manifest.json" .state '"complete"'
  assert_contains "$run/logs/server.log" 'did not end within its grace; killing it'
  assert_clean
}

# A bench that lasts until somebody dies, with a checkpoint of its results after 10 s.
LASTING=(--set workload.duration_seconds=600 --set workload.concurrent_users=1)
stack_run() { find "$T/results" -mindepth 1 -maxdepth 1 -name "*-$1"; }
loads() { wait_until 90 "the bench of job $1 to send" bash -c "jq -e '.ready_at' '$T'/results/*-$1/steps/bench-$BENCH.json"; }
# the process of a role, of which its step file tells, or of a program
role_pid() { jq -r .pid "$T"/results/*-"$1"/steps/"$2".json; } # JOB STEP
pid_in_job() { # JOB PROGRAM [WORD]: the first one of this job, with WORD among its arguments
  on_node "$(job_field "$1" BatchHost)" bash -c 'for pid in $(pgrep -u "$1" -x "$2"); do
    ! grep -q "/job_$3/" /proc/$pid/cgroup || ! tr "\0" "\n" </proc/$pid/cmdline | grep -q "^$4" || { echo $pid; exit; }
  done; exit 1' pid "$CLUSTER_USER" "$2" "$1" "${3:-}"
}
kill9() { on_node "$(job_field "$1" BatchHost)" kill -KILL "$2"; } # JOB PID
kept() { # NAME RUN COMPLETENESS : what was measured until then is there
  assert_file "$2/manifest.json" "$2/report.html" "$2/bench/$BENCH/results.json"
  jq -c --arg row "$1" '{row: $row, successes, completeness, validity}' "$2/bench/$BENCH/results.json"
  assert_json "$2/bench/$BENCH/results.json" '[.successes > 0, .completeness]' "[true,\"$3\"]"
}

# The processes of a run are killed in the middle of its bench, each in a job of its own.
TIMEOUT_role_failures=240
case_role_failures() {
  local engine restarted server srun bench monitor prometheus job results t0
  engine=$(submit -p all jobs/llamacpp-stack.sh "${LASTING[@]}")
  restarted=$(submit -p all jobs/llamacpp-stack.sh --set server:service.restart.max=1 --set server:service.restart.backoff=1s --set workload.duration_seconds=40 --set workload.concurrent_users=1)
  server=$(submit -p all jobs/llamacpp-stack.sh "${LASTING[@]}")
  srun=$(submit -p all jobs/llamacpp-stack.sh "${LASTING[@]}")
  bench=$(submit -p all jobs/llamacpp-stack.sh "${LASTING[@]}")
  monitor=$(submit -p all jobs/llamacpp-stack.sh --set workload.duration_seconds=40 --set workload.concurrent_users=1)
  prometheus=$(submit -p all jobs/llamacpp-stack.sh --set workload.duration_seconds=40 --set workload.concurrent_users=1)
  for job in "$restarted" "$monitor" "$prometheus" "$engine" "$server" "$srun" "$bench"; do loads "$job"; done
  (umask 077; awk 1 "$REGISTRY/scrape.key" "$REGISTRY"/.keys/* >"$LOGS/secrets")
  assert_number "keys" "$(grep -c . "$LOGS/secrets")" ">=" 15
  for job in "$restarted" "$monitor" "$prometheus" "$engine" "$server" "$srun" "$bench"; do
    wait_until 60 "successes of job $job" bash -c "jq -e '.successes > 0' '$T'/results/*-$job/bench/$BENCH/results.json"
    case $job in
      "$restarted") kill9 "$job" "$(pid_in_job "$job" llama-server)" ;;
      "$monitor") kill9 "$job" "$(role_pid "$job" monitor)" ;;
      "$prometheus") kill9 "$job" "$(pid_in_job "$job" prometheus)" ;;
      "$engine") kill9 "$job" "$(pid_in_job "$job" llama-server)"; t0=$SECONDS ;;
      "$server") kill9 "$job" "$(role_pid "$job" server)" ;;
      "$srun") kill9 "$job" "$(pid_in_job "$job" srun server$)" ;;
      "$bench") kill9 "$job" "$(role_pid "$job" "bench-$BENCH")" ;;
    esac
  done

  row engine "$engine" 69 'the engine ended after it was ready: exit code 137 \(SIGKILL\)'
  assert_number "seconds from the engine's end to the job's" $((SECONDS - t0)) "<" 20
  row server "$server" 69 'the server ended while a bench was running \(exit 137\).* Killed'
  row srun "$srun" 69 'the server ended while a bench was running \(exit 137\).* see .*server\.log'
  row bench "$bench" 69 "bench-$BENCH ended with exit 137: .* Killed"
  row restarted "$restarted" 0 ''
  row monitor "$monitor" 0 'the monitor ended by itself \(exit 137\), it is started again: .* Killed'
  row prometheus "$prometheus" 0 ''

  for job in engine server srun; do kept "$job" "$(stack_run "${!job}")" interrupted; done
  kept bench "$(stack_run "$bench")" running
  for job in restarted monitor prometheus; do kept "$job" "$(stack_run "${!job}")" complete; done
  # an engine that is started again is found where it was, and a result says what it went through
  results=$(stack_run "$restarted")/bench/$BENCH/results.json
  assert_number "successes with a restart" "$(jq .successes "$results")" ">" "$(jq .successes "$(stack_run "$engine")/bench/$BENCH/results.json")"
  assert_json "$results" '.validity.reasons | any(test("started again"))' true
  assert_json "$(stack_run "$restarted")/steps/server.json" .facts.restarts 1
  assert_json "$(stack_run "$monitor")/bench/$BENCH/results.json" '.validity.reasons | any(test("monitor was lost"))' true
  assert_contains "$(stack_run "$prometheus")/logs/monitor.log" 'Prometheus ended; starting it again'
  for job in engine restarted server bench monitor prometheus; do
    assert_archived "$(stack_run "${!job}")" 'count(last_over_time({__name__=~"llamacpp:.*"}[1h]))'
  done
  ! grep -rlF -f "$LOGS/secrets" "$T/results" "$T"/*.out || fail "a key is in these files"
  rm "$LOGS/secrets"
  # also of what was killed there is no record, no key and no file: the stack has cleared them away
  assert_clean
}

# A service that never comes, and one that two jobs serve.
TIMEOUT_service_failures=200
case_service_failures() {
  local first second nowhere lonely several by_job by_instance instance out=$LOGS/services.json short=(--set workload.duration_seconds=4)
  derive servers "$SERVER" tests-twin -e 's/^service_name: .*/service_name: tests-twin/'
  derive clients "$BENCH" tests-twin-bench -e 's/^service_name: .*/service_name: tests-twin/'
  derive clients "$BENCH" tests-nowhere -e 's/^service_name: .*/service_name: tests-twins/'
  derive monitors "$MONITOR" tests-lonely -e 's/^service_name: .*/service_name: tests-twins/'
  first=$(server_job tests-twin -w node1)
  second=$(server_job tests-twin -w node2)
  as_user bin/aif wait tests-twin --job "$first" --timeout 60s
  as_user bin/aif wait tests-twin --job "$second" --timeout 60s
  as_user bin/aif services --json >"$out"
  instance=$(jq -r --arg job "$second" '.[].record | select(.job_id == $job).instance_id' "$out")

  lonely=$(submit -p all -w node4 jobs/monitor.sh tests-lonely)
  nowhere=$(submit -p all -w node3 jobs/bench.sh tests-nowhere --wait 4s)
  several=$(submit -p all -w node3 jobs/bench.sh tests-twin-bench --wait 4s)
  by_job=$(submit -p all -w node3 jobs/bench.sh tests-twin-bench --job "$first" "${short[@]}")
  by_instance=$(submit -p all -w node3 jobs/bench.sh tests-twin-bench --instance "$instance" "${short[@]}")
  row nowhere "$nowhere" 69 'service tests-twins after 4.* it is not registered, but tests-twin: '
  row several "$several" 69 "several jobs serve tests-twin: $first \(server-$first.* on node1\), $second \($instance on node2\); choose one with --job"
  row by_job "$by_job" 0 ''
  row by_instance "$by_instance" 0 ''
  assert_json "$T"/results/*-bench-"$by_job".*/bench/tests-twin-bench/results.json .target.nodes '["node1"]'
  assert_json "$T"/results/*-bench-"$by_instance".*/bench/tests-twin-bench/results.json .target.nodes '["node2"]'

  wait_until 30 "the monitor's Prometheus" bash -c "jq -e .ready_at '$T'/results/*-monitor-$lonely.*/steps/monitor.json"
  as_user bin/aif stop --job "$lonely"
  row lonely "$lonely" 69 'no server of service tests-twins .* tests-twin'
  as_user bin/aif stop tests-twin
  row first "$first" 0 ''
  row second "$second" 0 ''
  assert_clean
}
