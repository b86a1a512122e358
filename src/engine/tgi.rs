//! Hugging Face's text-generation-inference. By its documentation (reference of launcher and metrics) and its source
//! (`router/src/server.rs` of 3.0 and later); it was **not run on the real one**, only against a double that speaks this. The
//! image of `tgi-server` is 3.3.5, of the same line; its own source was not compared.
//!
//! - `text-generation-launcher --model-id M --hostname H --port P --num-shard N`: `/health` is 503 while it loads.
//! - `API_KEY` guards what generates (`/`, `/generate`, `/generate_stream`, `/v1/completions`, `/v1/chat/completions`,
//!   `/tokenize`). `/health`, `/info`, `/metrics` and `/v1/models` stay open, and so does `/invocations`, by which one can
//!   still get answers: a key keeps mistakes out, not attackers. A GET of `/generate` is 401 without the key and 405 with it.
//! - Its counters have no `_total`: `tgi_request_failure` is incremented by that name in the router.
//! - On TERM it blocks new requests and answers those of its queue for up to 90 s, by its maintainer's word (issue 2035 of its
//!   repository, 2024). There is no option for it: what lasts longer than the grace is killed.
//! - It has no metric of the first token or of its KV cache. Tokens are told by the sums of two histograms.

use super::{Drain, KeyBy, LARGE_MODELS, Profile};
use crate::recipe::{Api, EngineKind};

pub(super) const PROFILE: Profile = Profile {
    kind: EngineKind::Tgi,
    ready_path: "/health",
    load_timeout: LARGE_MODELS,
    apis: &[Api::Completions, Api::Chat],
    drain: Drain {
        on_term: "takes no more requests and answers those that it has, for 90 s at the most: longer than most grace",
        option: None,
    },
    open_paths: &["/health", "/info", "/metrics", "/v1/models", "/invocations"],
    metrics_path: Some("/metrics"),
    key: KeyBy::Variable("API_KEY"),
    models_path: Some("/v1/models"),
    preload: &[],
    guarded_path: Some("/generate"),
    version: Some(("/info", "version")),
    prompt_tokens: &["tgi_request_input_length_sum"],
    output_tokens: &["tgi_request_generated_tokens_sum"],
    running: &["tgi_batch_current_size"],
    waiting: &["tgi_queue_size"],
    kv_cache: &[],
    time_to_first_token: None,
    inter_token_latency: &[],
    tokenizing: None,
    failures: &[("tgi_request_failure", "tgi_request_count")],
    recorded: &[],
    aliases: &[],
    caches: &[
        ("OUTLINES_CACHE_DIR", "outlines"),
        ("TRITON_CACHE_DIR", "triton"),
        ("TORCHINDUCTOR_CACHE_DIR", "inductor"),
    ],
    ranks: None,
    hints: &[
        (
            "Not enough memory to handle",
            "the model leaves no room for its cache: use more GPUs (--num-shard) or a smaller --max-total-tokens",
        ),
        (
            "`max_input_tokens` must be < `max_total_tokens`",
            "the lengths do not go together: --max-input-tokens must be below --max-total-tokens",
        ),
    ],
};
