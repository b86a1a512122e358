//! Ollama. By its documentation (`docs/api.md`, `docs/faq.md`, `docs/openai.md` of its repository; docs.ollama.com of 0.40);
//! it was **not run on the real one**, only against a double that speaks this. Its own API is in `src/api/ollama.rs`.
//! The image of `ollama-server`, 0.12.3, is older than those pages: an example, not what they describe.
//!
//! - `OLLAMA_HOST=HOST:PORT ollama serve`: there is no flag for the port. `/` says "Ollama is running", `/api/version`
//!   tells its version. It answers before it has any model: a recipe that pulls one waits for `/v1/models/NAME`,
//!   which is 404 until the model is there.
//! - A model is loaded at the first request and dropped after `OLLAMA_KEEP_ALIVE` (5 minutes); recipes set `-1`.
//!   `OLLAMA_NUM_PARALLEL` requests run at once, further ones wait.
//! - A model is loaded beforehand by POST `/api/generate` of its name without a prompt (`docs/api.md`, "Load a model"), which
//!   generates nothing and is answered when it is there: `done_reason: "load"`. A model of embeddings alone is refused there
//!   by 400 ("does not support generate") and loaded by `/api/embed` without an input (`server/routes.go`). A model that was
//!   not pulled is 404, `{"error": "model 'NAME' not found"}`. The server does this before it tells that it is ready, where
//!   the recipe pulls a model; with `keep_alive: -1`, so that it is still there for the first request.
//! - No key and no metrics: the report shows what the bench and the node tell.
//! - On TERM it closes its server (pull request 4213 of its repository, 2024, "Close server on receiving signal").
//! - Models lie in `OLLAMA_MODELS`, which is to be kept, and therefore is no cache here.

use super::{Drain, KeyBy, LARGE_MODELS, Profile};
use crate::recipe::{Api, EngineKind};

pub(super) const PROFILE: Profile = Profile {
    kind: EngineKind::Ollama,
    ready_path: "/api/version",
    load_timeout: LARGE_MODELS,
    apis: &[
        Api::Completions,
        Api::Chat,
        Api::Embeddings,
        Api::OllamaGenerate,
        Api::OllamaChat,
    ],
    drain: Drain {
        on_term: "closes its server at once: what is under way is broken off",
        option: None,
    },
    open_paths: &[],
    metrics_path: None,
    key: KeyBy::None,
    models_path: Some("/v1/models"),
    preload: &["/api/generate", "/api/embed"],
    guarded_path: None,
    version: Some(("/api/version", "version")),
    prompt_tokens: &[],
    output_tokens: &[],
    running: &[],
    waiting: &[],
    kv_cache: &[],
    time_to_first_token: None,
    inter_token_latency: &[],
    tokenizing: None,
    failures: &[],
    recorded: &[],
    aliases: &[],
    caches: &[],
    ranks: None,
    hints: &[
        (
            "address already in use",
            "the port is taken: use `ports: [auto]` and OLLAMA_HOST={host}:{port}",
        ),
        (
            "pull model manifest",
            "the node has no way out to pull the model: pull it on a login node into the folder of OLLAMA_MODELS",
        ),
        (
            "model requires more system memory",
            "the model does not fit into the job's memory: raise orchestration.resources.memory_gb",
        ),
    ],
};
