# shellcheck shell=bash disable=SC2016,SC2034,SC2153,SC2154
# Services that generate no text, each in a stack of its own: a vector database, embeddings, reranking.

# What no result of whole answers may tell of.
assert_no_tokens() { # RUN BENCH
  assert_json "$1/bench/$2/results.json" '[.metrics | keys[] | select(test("first_token|inter_token|output_token"))]' '[]'
  ! grep -qiE 'TTFT|time to first token|inter.token' "$1/report.md" || fail "$1/report.md tells of first tokens"
}

run_stack() { # SERVER MONITOR BENCH; sets RUN and RESULTS
  local job
  job=$(as_user env AIF_SERVER="$1" AIF_MONITOR="$2" AIF_BENCH="$3" sbatch --parsable --partition=cpu --gres=none --cpus-per-task=4 --mem=4G jobs/vllm-stack.sh)
  assert_eq "exit code of the job" 0 "$(wait_job "$job" 280)"
  RUN=$(run_of "$job") RESULTS=$RUN/bench/$3/results.json
  assert_file "$RUN"/{manifest.json,report.html,report.md} "$RESULTS"
  assert_json "$RESULTS" '.successes > 0 and .errors == 0' true
  assert_json "$RESULTS" '.validity.verdict != "invalid"' true
  assert_no_tokens "$RUN" "$3"
  jq -c '{successes, p50: .metrics.request_latency.p50, verdict: .validity}' "$RESULTS"
}

# a. The real ChromaDB: filled, asked, held against the true neighbours.
TIMEOUT_chroma=420
case_chroma() {
  local images=$USER_HOME/ai-factories/containers
  sbatch/image-chroma.sh "$images"
  ln -sfn "$images/chroma.sif" "$T/containers/chroma.sif"
  run_stack chroma-server chroma-monitor chroma-test
  jq -c '.metrics | {recall, insert_throughput, insert_latency}' "$RESULTS"
  assert_json "$RESULTS" '.metrics.recall | .avg > 0.9 and .avg <= 1 and .min != null and .p5 != null' true
  assert_json "$RESULTS" '.collection | [.vectors, .kept, .metrics.insert_throughput.avg > 0]' '[5000,false,true]'
  assert_contains "$RUN/report.md" "recall"
  assert_archived "$RUN" 'last_over_time(aif_bench_recall_count[1h])'
  assert_archived "$RUN" 'last_over_time(aif_bench_inserted_vectors_total[1h]) == 5000'
}

# b. Embeddings and reranking by the real llama-server.
TIMEOUT_embeddings=420
case_embeddings() {
  run_stack llamacpp-embeddings-server llamacpp-monitor llamacpp-embeddings
  assert_json "$RESULTS" '.tokens.prompt | .client > 0 and .client == .engine' true
}
TIMEOUT_rerank=420
case_rerank() {
  run_stack llamacpp-rerank-server llamacpp-monitor llamacpp-rerank
  assert_json "$RESULTS" '.tokens.prompt.client > 0' true
}
