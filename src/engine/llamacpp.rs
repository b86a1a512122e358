//! llama.cpp's `llama-server`.
//!
//! - `/health` is 503 while the model loads, then 200; it stays open when there is a key, `/metrics` and `/props` do not.
//! - `--metrics` is off by default. Prompt tokens that came from the cache are counted apart; `usage` holds both.
//! - On TERM it stops generating at once, streams end without `[DONE]`, and the process waits for its handlers to wake:
//!   up to `--sse-ping-interval` (30 s by default, as long as Slurm waits before it kills). Recipes set 2. A second TERM
//!   is exit 1.
//! - The key goes by file, so that it is in no environment either.

use super::{Drain, KeyBy, LARGE_MODELS, Profile, Tokenizing};
use crate::recipe::{Api, EngineKind};

pub(super) const PROFILE: Profile = Profile {
    kind: EngineKind::LlamaCpp,
    ready_path: "/health",
    load_timeout: LARGE_MODELS,
    apis: &[Api::Completions, Api::Chat, Api::Embeddings, Api::Rerank],
    drain: Drain {
        on_term: "breaks off what is under way at once, and ends when its handlers wake: within the interval of the option",
        option: Some("--sse-ping-interval"),
    },
    open_paths: &["/", "/health", "/v1/health"],
    metrics_path: Some("/metrics"),
    key: KeyBy::FileVariable("LLAMA_ARG_API_KEY_FILE"),
    models_path: Some("/v1/models"),
    preload: &[],
    guarded_path: Some("/v1/models"),
    version: Some(("/props", "build_info")),
    prompt_tokens: &[
        "llamacpp:prompt_tokens_total",
        "llamacpp:prompt_tokens_cached_total",
    ],
    output_tokens: &["llamacpp:tokens_predicted_total"],
    running: &["llamacpp:requests_processing"],
    waiting: &["llamacpp:requests_deferred"],
    // older releases told it
    kv_cache: &["llamacpp:kv_cache_usage_ratio"],
    time_to_first_token: None,
    inter_token_latency: &[],
    tokenizing: Some(Tokenizing::Content),
    failures: &[],
    recorded: &[],
    aliases: &[],
    caches: &[],
    ranks: None,
    hints: &[
        (
            "couldn't bind HTTP server socket",
            "the port is taken: use `ports: [auto]` and {port} in the arguments",
        ),
        (
            "failed to open GGUF file",
            "the model file is missing: check the path after -m, and that the container sees it (binds)",
        ),
        (
            "error: invalid argument",
            "llama-server does not know one of the arguments: check service.container.args",
        ),
    ],
};
