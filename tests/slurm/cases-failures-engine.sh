# shellcheck shell=bash disable=SC2016,SC2034,SC2153,SC2154
# What fails of engines, ports, services and roles, and how it is told. Rows that only wait share a case: their jobs run side by side.

# One line of the table: job, expected code, and what its one error says.
row() { # NAME JOB CODE PATTERN
  local code out error seconds
  code=$(wait_job "$2" 100)
  # Slurm gives no code of the batch step in which the kernel's killer was
  [ "$(job_state "$2")" != OUT_OF_MEMORY ] || code=oom
  out=$(output_of "$2")
  error=$(grep -a '^aif: ' "$out" | grep -v '^aif: run folder' || true)
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
  mute=$(submit jobs/llamacpp-stack.sh --set server:service.readiness.path=/never --set server:service.readiness.timeout=8s)
  large=$(submit --mem=800M "$(stack_job tests-large)")
  larger=$(server_job tests-large --mem=800M)
  deaf=$(submit --export=ALL,AIF_GRACE_SECONDS=6 "$(stack_job tests-deaf)" --set workload.duration_seconds=5)
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
