//! `TensorRT-LLM`'s `trtllm-serve`. By its documentation (command reference, example of its metrics) and its source
//! (`tensorrt_llm/metrics/collector.py` of 2026); it was **not run on the real one**, only against a double that speaks this.
//! The image of `trtllm-server`, 1.0.0, is older than that source.
//!
//! - `trtllm-serve M --host H --port P --tp_size N`; over several nodes it is started by MPI:
//!   `srun --mpi=pmix … trtllm-llmapi-launch trtllm-serve …`, with as many processes as `--tp_size`, one a GPU
//!   (`examples/llm-api/llm_mgmn_trtllm_serve.sh` of its repository, which calls this experimental; 2025). Our ranks are one
//!   process a node, so there is no way by `ranks`, and a recipe of several nodes is told how to have it otherwise.
//! - Prometheus reads `/prometheus/metrics`; `/metrics` is JSON, and each iteration is told there once only. Both kinds
//!   of metrics are off by default: latencies and tokens want `return_perf_metrics: true`, what runs, waits and fills the KV
//!   cache wants `enable_iter_perf_stats: true`, in the file of `--extra_llm_api_options`. Releases before 1.3 have only the
//!   first kind. `trtllm-server` sets both.
//! - It takes no key.

use super::{Drain, KeyBy, LARGE_MODELS, Profile};
use crate::recipe::{Api, EngineKind};

pub(super) const PROFILE: Profile = Profile {
    kind: EngineKind::Trtllm,
    ready_path: "/health",
    load_timeout: LARGE_MODELS,
    apis: &[Api::Completions, Api::Chat],
    drain: Drain::UNKNOWN,
    open_paths: &[],
    metrics_path: Some("/prometheus/metrics"),
    key: KeyBy::None,
    models_path: Some("/v1/models"),
    preload: &[],
    guarded_path: None,
    version: Some(("/version", "version")),
    prompt_tokens: &["trtllm_prompt_tokens_total"],
    output_tokens: &["trtllm_generation_tokens_total"],
    running: &["trtllm_num_requests_running"],
    waiting: &["trtllm_num_requests_waiting"],
    kv_cache: &["trtllm_kv_cache_utilization"],
    time_to_first_token: Some("trtllm_time_to_first_token_seconds"),
    inter_token_latency: &["trtllm_time_per_output_token_seconds"],
    tokenizing: None,
    // it counts failed and good ones, never all
    failures: &[],
    recorded: &[],
    aliases: &[],
    caches: &[
        ("TRITON_CACHE_DIR", "triton"),
        ("TORCHINDUCTOR_CACHE_DIR", "inductor"),
    ],
    ranks: None,
    hints: &[(
        "OMPI was not built with SLURM",
        "over several nodes it is started by MPI: `srun --mpi=pmix` with a PMIx that the image knows",
    )],
};
