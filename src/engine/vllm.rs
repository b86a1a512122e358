//! vLLM.
//!
//! - The port refuses until it is ready, then `/health` is 200 with an empty body.
//! - `VLLM_API_KEY` guards `/v1/*` only: `/metrics` and `/health` stay open, and so does `/invocations`, by which one can
//!   still get answers. A key keeps mistakes out, not attackers.
//! - On TERM, `--shutdown-timeout 0` (its default) kills the engine under running requests; recipes set a value below
//!   the grace, and one that does not is warned of. `/health` stays 200 while it drains.
//! - Over several nodes (options of `vllm serve --help` of 0.32, run on two nodes with its CPU build): rank 0 has the API, the
//!   others are `--headless`, and all meet at rank 0's node. The recipe says how the model is divided:
//!   `--tensor-parallel-size` or `--pipeline-parallel-size` of all GPUs together. Without `VLLM_HOST_IP` it looks for its
//!   own address by a route to the internet, which nodes need not have. When rank 0 ends, the others stay.
//! - Metrics were renamed between generations; both names are served (`aliases`).

use super::{Drain, KeyBy, LARGE_MODELS, Profile, Ranks, Tokenizing};
use crate::{
    prometheus::rules::Recorded,
    recipe::{Api, EngineKind},
};

const fn record(name: &'static str, expr: &'static str) -> Recorded {
    Recorded { name, expr }
}

pub(super) const PROFILE: Profile = Profile {
    kind: EngineKind::Vllm,
    ready_path: "/health",
    load_timeout: LARGE_MODELS,
    apis: &[Api::Completions, Api::Chat, Api::Embeddings, Api::Rerank],
    drain: Drain {
        on_term: "breaks off what is under way at once, and may wait long for its clients to leave; with the option it answers them first",
        option: Some("--shutdown-timeout"),
    },
    open_paths: &[
        "/health",
        "/ping",
        "/version",
        "/metrics",
        "/tokenize",
        "/invocations",
    ],
    metrics_path: Some("/metrics"),
    key: KeyBy::Variable("VLLM_API_KEY"),
    models_path: Some("/v1/models"),
    preload: &[],
    guarded_path: Some("/v1/models"),
    version: Some(("/version", "version")),
    prompt_tokens: &["vllm:prompt_tokens_total"],
    output_tokens: &["vllm:generation_tokens_total"],
    running: &["vllm:num_requests_running"],
    waiting: &["vllm:num_requests_waiting"],
    kv_cache: &["vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc"],
    time_to_first_token: Some("vllm:time_to_first_token_seconds"),
    inter_token_latency: &[
        "vllm:inter_token_latency_seconds",
        "vllm:time_per_output_token_seconds",
    ],
    tokenizing: Some(Tokenizing::Prompt),
    failures: &[
        (
            "vllm:request_success_total{finished_reason=\"error\"}",
            "vllm:request_success_total",
        ),
        (
            "http_requests_total{status=~\"5..\"}",
            "http_requests_total",
        ),
    ],
    // names that queries and dashboards written for the original tool ask for
    recorded: &[
        record(
            "vllm_requests_total",
            "sum without (finished_reason) (vllm:request_success_total)",
        ),
        record(
            "vllm_request_duration_seconds_bucket",
            "vllm:e2e_request_latency_seconds_bucket",
        ),
        record(
            "vllm_request_duration_seconds_sum",
            "vllm:e2e_request_latency_seconds_sum",
        ),
        record(
            "vllm_request_duration_seconds_count",
            "vllm:e2e_request_latency_seconds_count",
        ),
        record(
            "vllm_time_to_first_token_seconds_bucket",
            "vllm:time_to_first_token_seconds_bucket",
        ),
        record(
            "vllm_time_to_first_token_seconds_sum",
            "vllm:time_to_first_token_seconds_sum",
        ),
        record(
            "vllm_time_to_first_token_seconds_count",
            "vllm:time_to_first_token_seconds_count",
        ),
        record("vllm_num_requests_running", "vllm:num_requests_running"),
        record(
            "vllm_gpu_cache_usage_perc",
            "vllm:kv_cache_usage_perc or vllm:gpu_cache_usage_perc",
        ),
    ],
    aliases: &[
        ("vllm:gpu_cache_usage_perc", "vllm:kv_cache_usage_perc"),
        (
            "vllm:time_per_output_token_seconds",
            "vllm:inter_token_latency_seconds",
        ),
        ("vllm:gpu_prefix_cache_queries", "vllm:prefix_cache_queries"),
        ("vllm:gpu_prefix_cache_hits", "vllm:prefix_cache_hits"),
    ],
    // HF_HOME is not among them: weights are to be kept, and whoever binds a folder of weights knows where.
    caches: &[
        ("VLLM_CACHE_ROOT", "vllm"),
        ("OUTLINES_CACHE_DIR", "outlines"),
        ("TRITON_CACHE_DIR", "triton"),
        ("TORCHINDUCTOR_CACHE_DIR", "inductor"),
    ],
    ranks: Some(Ranks {
        all: &[
            "--nnodes",
            "{nodes}",
            "--node-rank",
            "{rank}",
            "--master-addr",
            "{head}",
            "--master-port",
            "{head_port}",
        ],
        others: &["--headless"],
        variables: &[("VLLM_HOST_IP", "{address}")],
    }),
    hints: &[
        (
            "less than desired CPU memory utilization",
            "vLLM on a CPU asks for most of the node's memory: set VLLM_CPU_KVCACHE_SPACE in service.env",
        ),
        (
            "less than desired GPU memory utilization",
            "something else uses the GPU's memory: lower --gpu-memory-utilization",
        ),
        (
            "No available memory for the cache blocks",
            "the model leaves no room for its cache: use more GPUs or a smaller --max-model-len",
        ),
        (
            "is larger than the maximum number of tokens that can be stored in KV cache",
            "the context does not fit into the cache: lower --max-model-len",
        ),
        (
            "larger than the available KV cache memory",
            "the context does not fit into the cache: lower --max-model-len",
        ),
        (
            "is greater than the derived max_model_len",
            "the model knows no context that long: lower --max-model-len",
        ),
        (
            "is not a valid JSON file",
            "this vLLM does not read a .gguf file: give it the model's folder",
        ),
    ],
};
