//! `SGLang`. By its documentation (server arguments, production metrics); it was **not run on the real one**, only
//! against a double that speaks this. The pages were read without a version; the image of `sglang-server`, v0.5.3, is an
//! example and need not be what they describe.
//!
//! - `python3 -m sglang.launch_server --model-path M --host H --port P --tp N --served-model-name S`; over several
//!   nodes `--nnodes N --node-rank R --dist-init-addr HEAD:PORT`.
//! - `/health` answers as soon as it serves; `/health_generate` makes a token, which is costly under load.
//! - On TERM it waits for its requests (`sigterm_watchdog` of `managers/tokenizer_manager.py`, as stored from 2025 and 2026); nothing
//!   bounds that but our own grace.
//! - Metrics only with `--enable-metrics`. Its key is an argument, which all on the node can read: recipes have none.

use super::{Drain, KeyBy, LARGE_MODELS, Profile, Ranks};
use crate::recipe::{Api, EngineKind};

pub(super) const PROFILE: Profile = Profile {
    kind: EngineKind::Sglang,
    ready_path: "/health",
    load_timeout: LARGE_MODELS,
    apis: &[Api::Completions, Api::Chat, Api::Embeddings],
    drain: Drain {
        on_term: "waits without a limit for what is under way, looking every 5 s; with SGL_FORCE_SHUTDOWN in its environment it ends at once",
        option: None,
    },
    open_paths: &[],
    metrics_path: Some("/metrics"),
    key: KeyBy::None,
    models_path: Some("/v1/models"),
    preload: &[],
    guarded_path: None,
    version: None,
    prompt_tokens: &["sglang:prompt_tokens_total"],
    output_tokens: &["sglang:generation_tokens_total"],
    running: &["sglang:num_running_reqs"],
    waiting: &["sglang:num_queue_reqs"],
    kv_cache: &["sglang:token_usage"],
    time_to_first_token: Some("sglang:time_to_first_token_seconds"),
    inter_token_latency: &[
        "sglang:inter_token_latency_seconds",
        "sglang:time_per_output_token_seconds",
    ],
    tokenizing: None,
    failures: &[(
        "sglang:num_aborted_requests_total",
        "sglang:num_requests_total",
    )],
    recorded: &[],
    aliases: &[(
        "sglang:time_per_output_token_seconds",
        "sglang:inter_token_latency_seconds",
    )],
    caches: &[
        ("OUTLINES_CACHE_DIR", "outlines"),
        ("TRITON_CACHE_DIR", "triton"),
        ("TORCHINDUCTOR_CACHE_DIR", "inductor"),
    ],
    // its documentation on several nodes; not run
    ranks: Some(Ranks {
        all: &[
            "--nnodes",
            "{nodes}",
            "--node-rank",
            "{rank}",
            "--dist-init-addr",
            "{head}:{head_port}",
        ],
        others: &[],
        variables: &[],
    }),
    hints: &[(
        "Not enough memory. Please try to increase --mem-fraction-static",
        "the model leaves no room for its cache: use more GPUs (--tp) or a higher --mem-fraction-static",
    )],
};
