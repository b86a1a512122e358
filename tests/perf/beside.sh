#!/usr/bin/env bash
#
# beside.sh - our client beside `vllm bench serve` and the engine's own counters and histograms, on one real vLLM.
#
#   tests/perf/beside.sh [--rounds N] [--requests N] [--keep DIR] [IMAGE]
#
# IMAGE is vllm-cpu.sif, which sbatch/image-vllm.sh makes (default: in CONTAINER_DIR, containers/ here, or
# ~/ai-factories/containers). It holds both engine and peer: vLLM with a tiny model of random weights, so that figures say
# something about the clients and nothing about a model. Needs Apptainer, jq, curl and Rust; takes 8 minutes on two cores.
#
# 1. Counts: requests and tokens of loads of several kinds, by us and by the engine's counters: must be equal, else this
#    ends with 1. Requests that the engine refuses are among them.
# 2. Times: the same workload (random prompts of a fixed length, a fixed number of tokens, a closed loop and an open one
#    with even gaps) by both clients in turn, some rounds, each with prompts of its own; the median of the rounds, and
#    beside it what the engine observed of the very same requests. Engine and clients share the cores of this machine:
#    only what stands in one row of one table can be compared.
#
# What is seen (vLLM 0.32, 64 requests, medians of 2 rounds, two cores with nothing else on them; means in ms):
#
#                                  TTFT             TPOT            ITL
#                              client engine   client engine   client engine
#   open loop, completions
#     aif                       28.75  25.72     6.99   7.02     7.00   7.02
#     vllm bench serve          30.55  24.55     7.75   7.77     7.76   7.77
#   open loop, chat
#     aif                       34.95  31.49     8.30   8.33     8.05   8.33
#     vllm bench serve          36.62  29.46     8.91   8.94     8.64   8.94
#   closed loop, chat
#     aif                       50.39  39.08     6.02   5.99     5.93   5.99
#     vllm bench serve          56.95  41.81     6.57   6.48     6.48   6.48
#
# Two clients cannot be compared down a column: the engine was not the same from load to load. Each can be with the engine,
# in its row:
# - TTFT of a client is more, ours by 3 ms in an open loop and 11 in a closed one whose 8 users begin at once, the peer's by 6
#   to 7 and 15: the way through vLLM's frontend and sockets, and the client's own; the engine's begins when its frontend has
#   the request and ends in the frontend, too.
# - TPOT agrees within 0.5 % (ours) and 1.5 %: (last - first token) / (tokens - 1) on both sides.
# - ITL of a chat is 31/32 of it: vLLM begins a chat with an event that names the role, together with the first token, and
#   its client counts that as a token with a gap of nothing. vllm.json does so, too; results.json does not. Where events
#   arrive together under load, gaps of clients are fewer and longer, for several tokens may come in one.
# - Input tokens: `vllm bench serve` makes prompts of 64 tokens as its tokenizer counts text alone, so a chat's template
#   comes on top; ours count what the engine reports, template included.
#
set -euo pipefail

SELF=$(readlink -f "$0")
ME=beside.sh
cd "$(dirname "$(dirname "$(dirname "$SELF")")")"
# shellcheck source=sbatch/common.sh
. sbatch/common.sh

ROUNDS=3 REQUESTS=96 KEEP="" IMAGE=""
INPUT=64 OUTPUT=32 USERS=8 RATE=4
while [ $# -gt 0 ]; do
  case $1 in
    --rounds) ROUNDS=$2; shift 2 ;;
    --requests) REQUESTS=$2; shift 2 ;;
    --keep) KEEP=$2; shift 2 ;;
    -h | --help) sed -n '2,/^set -euo/{/^set/d;s/^# \{0,1\}//;p}' "$SELF"; exit 0 ;;
    -*) die $EX_USAGE "unknown option $1: see $ME --help" ;;
    *) IMAGE=$1; shift ;;
  esac
done
for folder in "${CONTAINER_DIR:-containers}" "$HOME/ai-factories/containers"; do
  [ -n "$IMAGE" ] || [ ! -r "$folder/vllm-cpu.sif" ] || IMAGE=$folder/vllm-cpu.sif
done
[ -r "$IMAGE" ] || die $EX_MISSING "no vllm-cpu.sif: make it with sbatch/image-vllm.sh DIR, then give its path"
for tool in jq curl cargo; do command -v $tool >/dev/null || die $EX_MISSING "'$tool' is missing"; done
APPTAINER=$(command -v apptainer || command -v singularity) || die $EX_MISSING "neither apptainer nor singularity is here"

cargo build --release --quiet --bin aif
AIF=$(readlink -f "${CARGO_TARGET_DIR:-target}/release/aif")
WORK=$(mktemp -d "${TMPDIR:-/tmp}/aif-beside-XXXXXX")
[ -z "$KEEP" ] || { mkdir -p "$KEEP"; KEEP=$(readlink -f "$KEEP"); }
engine=""
# shellcheck disable=SC2317  # called by the trap
finish() {
  if [ -n "$engine" ]; then kill "$engine" 2>/dev/null || true; wait "$engine" 2>/dev/null || true; fi
  [ -z "$KEEP" ] || cp -r "$WORK/." "$KEEP/"
  rm -rf "$WORK"
}
trap finish EXIT
mkdir -p "$WORK/home"
ln -s "$PWD/recipes" "$PWD/sbatch" "$WORK/home/"

port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])' 2>/dev/null || echo 18471)
URL=http://127.0.0.1:$port
in_image=("$APPTAINER" exec --cleanenv --env VLLM_CPU_KVCACHE_SPACE=1 --bind "$WORK:/beside" "$IMAGE")

say "vLLM starts on $URL"
# a cache of prefixes would answer what came before faster, whoever asks
"${in_image[@]}" vllm serve /models/tiny-llama --served-model-name tiny-llama --host 127.0.0.1 --port "$port" --dtype bfloat16 \
  --max-model-len 2048 --max-num-seqs 16 --enforce-eager --no-enable-prefix-caching >"$WORK/engine.log" 2>&1 &
engine=$!
for _ in $(seq 300); do
  curl -fs "$URL/health" >/dev/null 2>&1 && break
  kill -0 "$engine" 2>/dev/null || { tail -n 20 "$WORK/engine.log" >&2; die $EX_UNAVAILABLE "vLLM ended"; }
  sleep 1
done
curl -fs "$URL/health" >/dev/null || die $EX_UNAVAILABLE "vLLM was not ready in 300 s"

# The engine's counters as JSON: name without labels -> sum over labels.
counters() {
  curl -fs "$URL/metrics" | awk '
    /^vllm:(prompt_tokens_total|generation_tokens_total|request_success_total|(time_to_first_token|inter_token_latency|request_time_per_output_token|e2e_request_latency|request_queue_time)_seconds_(sum|count))[{ ]/ {
      name = $1; sub(/\{.*/, "", name); sum[name] += $NF
    }
    END { printf "{"; for (name in sum) { printf "%s\"%s\": %.9f", comma, name, sum[name]; comma = ", " } print "}" }'
}
# What the engine counted of one command: `observed FILE COMMAND...`. It counts a request a moment after its end. A command
# that does other things first tells by the file `before` what was counted until its load began.
observed() {
  local file=$1; shift
  counters >"$WORK/before"
  "$@"
  sleep 1
  jq -n --slurpfile all "$WORK/before" --argjson after "$(counters)" '$all[0] as $before | $after | with_entries(.value -= ($before[.key] // 0))' >"$file"
}
# shellcheck disable=SC2317  # called through observed
aif() {
  (cd "$WORK/home" && env -i PATH="$PATH" HOME="$WORK/home" AIF_HOME="$WORK/home" AIF_SITE=plain AIF_LOG=info "$AIF" bench "$@") >>"$WORK/aif.log" 2>&1 ||
    { tail -n 20 "$WORK/aif.log" >&2; return 1; }
}

# --- 1. counts -------------------------------------------------------------------------------------------------------
say "counts"
faults=0
counted() { # NAME WORKLOAD PARAMS
  local folder=$WORK/counts-$1
  printf 'name: %s\nservice_name: s\nworkload: {%s}\ndataset: {params: {model_name: tiny-llama, %s}}\n' "$1" "$2" "$3" >"$WORK/$1.yaml"
  observed "$folder.engine" aif "$WORK/$1.yaml" --url "$URL" --out "$folder" --allow-invalid
  # the probes that find the length of a prompt are a token each, and the engine counts them, too
  jq -r --arg name "$1" --slurpfile engine "$folder.engine" '
    $engine[0] as $e | .workload.calibration as $probes
    | [.successes + ($probes | length), .tokens.prompt.client + ($probes | map(.[1]) | add // 0), .tokens.output.client + ($probes | length)] as $ours
    | [$e["vllm:request_success_total"], $e["vllm:prompt_tokens_total"], $e["vllm:generation_tokens_total"]] as $theirs
    | [$name, $ours[], $theirs[], .errors, (.errors_by_class | keys | join(" ")), (if $ours == $theirs then "equal" else "DIFFERENT" end)] | @tsv' "$folder/results.json" >>"$WORK/counts"
}
counted completions      "concurrent_users: 4, total_requests: 60" "prompt_length: {uniform: [8, 200]}, max_tokens: {uniform: [1, 40]}"
counted chat             "api: chat, requests_per_second: 10, total_requests: 60" "prompt_length: 64, max_tokens: {uniform: [1, 40]}, ignore_eos: true"
counted no-stream        "api: chat, stream: false, concurrent_users: 4, total_requests: 60" "prompt_length: 64, max_tokens: 16"
counted some-refused     "concurrent_users: 4, total_requests: 60" "prompt_length: {uniform: [200, 2200]}, max_tokens: 4"
{
  printf 'load\trequests\tprompt tokens\toutput tokens\tengine: requests\tprompt tokens\toutput tokens\terrors\tclass\t\n'
  cat "$WORK/counts"
} | column -t -s $'\t'
! grep -q DIFFERENT "$WORK/counts" || faults=1

# --- 2. times --------------------------------------------------------------------------------------------------------
# shellcheck disable=SC2317
peer() { # FILE SEED API FLAGS...
  local file=$1 seed=$2 backend=$3 endpoint=/v1/completions; shift 3
  [ "$backend" = openai ] || endpoint=/v1/chat/completions
  "${in_image[@]}" vllm bench serve --backend "$backend" --endpoint "$endpoint" --base-url "$URL" --model tiny-llama --tokenizer /models/tiny-llama \
    --dataset-name random --random-input-len "$INPUT" --random-output-len "$OUTPUT" --ignore-eos --num-prompts "$REQUESTS" --seed "$seed" \
    --percentile-metrics ttft,tpot,itl,e2el --save-result --result-dir /beside --result-filename "$file.json" --disable-tqdm "$@" >>"$WORK/peer.log" 2>&1
}
# shellcheck disable=SC2317
ours() { # FILE SEED API FLAGS...
  local file=$1 seed=$2 backend=$3 bench; shift 3
  : >"$WORK/aif.log"
  aif --url "$URL" --model tiny-llama --backend "$backend" --random-input-len "$INPUT" --random-output-len "$OUTPUT" --ignore-eos \
    --num-prompts "$REQUESTS" --seed "$seed" --out "$WORK/$file" --allow-invalid "$@" &
  bench=$!
  # what finds the length of a prompt is none of the load; the engine must not have counted a first token yet
  until grep -q "Calibrated the prompts" "$WORK/aif.log"; do
    kill -0 "$bench" 2>/dev/null || break
    sleep 0.002
  done
  counters >"$WORK/before"
  wait "$bench"
  cp "$WORK/$file/vllm.json" "$WORK/$file.json"
}
declare -A flags=([closed]="--max-concurrency $USERS" [open]="--request-rate $RATE --burstiness 100000")
for round in $(seq "$ROUNDS"); do
  for load in closed open; do
    for backend in openai openai-chat; do
      for who in peer ours; do
        say "round $round of $ROUNDS: $load loop, $backend, $who"
        name=$who-$load-$backend-$round
        # shellcheck disable=SC2086  # flags are words
        observed "$WORK/$name.engine" $who "$name" $((round * 100 + ${#who})) $backend ${flags[$load]}
      done
    done
  done
done

jq -rn --argjson output "$OUTPUT" '
  def median: sort | if length % 2 == 1 then .[length / 2 | floor] else (.[length / 2 - 1] + .[length / 2]) / 2 end;
  def shown: if . == null then "-" elif . >= 1000 then (. | round) elif . >= 100 then (. * 10 | round / 10) else (. * 100 | round / 100) end;
  [inputs | {name: (input_filename | split("/") | last | rtrimstr(".json") | rtrimstr(".engine")), engine: (input_filename | endswith(".engine")), all: .}] as $files
  | def of($who; $load; $backend; $engine; f): [$files[] | select(.engine == $engine and (.name | test("^\($who)-\($load)-\($backend)-[0-9]+$"))) | .all | f] | map(select(. != null)) | if length > 0 then median else null end;
  def mean($name): if .["vllm:\($name)_seconds_count"] > 0 then .["vllm:\($name)_seconds_sum"] / .["vllm:\($name)_seconds_count"] * 1000 else null end;
  ("closed", "open") as $load | ("openai", "openai-chat") as $backend
  | (["", "\($load) loop, \($backend):", "aif", "vllm bench", "engine of aif", "engine of vllm bench"],
     ["", "requests", (of("ours"; $load; $backend; false; .completed) | shown), (of("peer"; $load; $backend; false; .completed) | shown),
       (of("ours"; $load; $backend; true; .["vllm:time_to_first_token_seconds_count"]) | shown), (of("peer"; $load; $backend; true; .["vllm:time_to_first_token_seconds_count"]) | shown)],
     ([["requests/s", "request_throughput"], ["output tokens/s", "output_throughput"], ["total tokens/s", "total_token_throughput"],
       ["input tokens", "total_input_tokens"], ["output tokens", "total_output_tokens"], ["duration s", "duration"],
       ["TTFT mean ms", "mean_ttft_ms", "time_to_first_token"], ["TTFT median ms", "median_ttft_ms"], ["TTFT p99 ms", "p99_ttft_ms"],
       ["TPOT mean ms", "mean_tpot_ms", "request_time_per_output_token"], ["TPOT median ms", "median_tpot_ms"],
       ["ITL mean ms", "mean_itl_ms", "inter_token_latency"], ["ITL median ms", "median_itl_ms"], ["ITL p99 ms", "p99_itl_ms"],
       ["E2EL median ms", "median_e2el_ms"], ["E2EL mean ms", "mean_e2el_ms", "e2e_request_latency"], ["E2EL p99 ms", "p99_e2el_ms"]][]
      | . as $row | ["", $row[0], (of("ours"; $load; $backend; false; .[$row[1]]) | shown), (of("peer"; $load; $backend; false; .[$row[1]]) | shown),
          (if $row[2] then of("ours"; $load; $backend; true; mean($row[2])) else null end | shown), (if $row[2] then of("peer"; $load; $backend; true; mean($row[2])) else null end | shown)]))
  | @tsv' "$WORK"/*.json "$WORK"/ours-*.engine "$WORK"/peer-*.engine >"$WORK/times"
column -t -s $'\t' "$WORK/times"
cat <<NOTES

aif: what vllm.json says, computed as vllm bench serve does. engine of: means of vLLM's own histograms over the same requests.
Both clients were run $ROUNDS times in turn; medians. $REQUESTS requests, $INPUT tokens in, $OUTPUT out; $USERS users, or $RATE requests/s.
NOTES

# the keys of both files
for load in closed open; do
  diff <(jq -r 'keys_unsorted[]' "$WORK/peer-$load-openai-1.json") <(jq -r 'keys_unsorted[]' "$WORK/ours-$load-openai-1.json") >"$WORK/keys-$load" ||
    { say "vllm.json has other keys than the peer's file ($load loop): < the peer's, > ours"; cat "$WORK/keys-$load"; faults=1; }
done
exit $faults
